//! Content type and body of a POST: headers and a stream go in, at most so many bytes come out, in time, and not more than there is
//! memory for.

use super::bodies::Growing;
use super::refusal::Refusal;
use crate::app::Limits;
use axum::body::Body;
use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

/// `application/json`, with or without parameters, once.
pub fn expect_json(headers: &HeaderMap) -> Result<(), Refusal> {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(Refusal::ContentType);
    };
    let essence = value
        .as_bytes()
        .split(|byte| *byte == b';')
        .next()
        .unwrap_or_default()
        .trim_ascii();
    if essence.eq_ignore_ascii_case(b"application/json") {
        Ok(())
    } else {
        Err(Refusal::ContentType)
    }
}

/// Read the whole body.
pub async fn read_body(headers: &HeaderMap, body: Body, limits: &Limits) -> Result<Bytes, Refusal> {
    let limit = limits.body_bytes;
    let declared = headers
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if declared.is_some_and(|length| length > limit) {
        return Err(Refusal::BodyTooLarge);
    }
    let reading = collect(Limited::new(body, limit), limits.bodies.begin());
    tokio::time::timeout(limits.body_time, reading)
        .await
        .unwrap_or(Err(Refusal::BodyTimeout))
}

async fn collect(mut body: Limited<Body>, mut read: Growing) -> Result<Bytes, Refusal> {
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            if error.is::<LengthLimitError>() {
                Refusal::BodyTooLarge
            } else {
                Refusal::BodyBroken
            }
        })?;
        if let Some(data) = frame.data_ref()
            && !read.push(data)
        {
            return Err(Refusal::BodiesFull);
        }
    }
    Ok(read.finish())
}
