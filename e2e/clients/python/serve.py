"""One process on uvicorn, as fast as it goes. In: PORT, an ASGI application. Out: it serves for ever."""

import os

import uvicorn


def serve(application) -> None:
    uvicorn.run(
        application,
        host="127.0.0.1",
        port=int(os.environ["PORT"]),
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
    )
