// Probe is the smallest server and client that a test of the cluster's network needs.
//
//	probe serve :8080          answers every request with the caller's address
//	probe get [-from IP] URL   prints the answer's body; fails after 3 seconds
package main

import (
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"
)

func main() {
	if len(os.Args) < 3 {
		fail(fmt.Errorf("usage: probe serve ADDRESS | probe get [-from IP] URL"))
	}
	switch os.Args[1] {
	case "serve":
		fail(http.ListenAndServe(os.Args[2], http.HandlerFunc(answer)))
	case "get":
		get(os.Args[2:])
	default:
		fail(fmt.Errorf("unknown command %q", os.Args[1]))
	}
}

func answer(response http.ResponseWriter, request *http.Request) {
	host, _, _ := net.SplitHostPort(request.RemoteAddr)
	fmt.Fprintln(response, host)
}

func get(arguments []string) {
	flags := flag.NewFlagSet("get", flag.ExitOnError)
	from := flags.String("from", "", "source address")
	_ = flags.Parse(arguments)
	dialer := &net.Dialer{}
	if *from != "" {
		dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(*from)}
	}
	client := &http.Client{Timeout: 3 * time.Second, Transport: &http.Transport{DialContext: dialer.DialContext}}
	response, err := client.Get(flags.Arg(0))
	if err != nil {
		fail(err)
	}
	defer response.Body.Close()
	if _, err := io.Copy(os.Stdout, response.Body); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "probe:", err)
	os.Exit(1)
}
