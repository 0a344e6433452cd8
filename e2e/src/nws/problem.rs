//! Errors of the service: application/problem+json with its types.
//! In: which problem, and its detail. Out: a response.

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, LOCATION};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

#[derive(Debug)]
pub(super) struct Problem {
    status: u16,
    kind: &'static str,
    title: &'static str,
    detail: String,
    location: Option<String>,
    errors: Option<Value>,
}

impl Problem {
    fn new(status: u16, kind: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            kind,
            title,
            detail: detail.into(),
            location: None,
            errors: None,
        }
    }

    /// The location is relative, as the service sends it.
    pub(super) fn precision(point: &str) -> Self {
        let detail = "The precision of latitude/longitude points is limited to 4 decimal digits for efficiency. The \
            location attribute contains your request mapped to the nearest supported point. If your client supports \
            it, you will be redirected.";
        let problem = Self::new(
            301,
            "AdjustPointPrecision",
            "Adjusting Precision Of Point Coordinate",
            detail,
        );
        Self {
            location: Some(format!("/points/{point}")),
            ..problem
        }
    }

    pub(super) fn no_data(point: &str) -> Self {
        let detail = format!("Unable to provide data for requested point {point}");
        Self::new(
            404,
            "InvalidPoint",
            "Data Unavailable For Requested Point",
            detail,
        )
    }

    pub(super) fn invalid(name: &str, value: &str, why: &str) -> Self {
        let detail = format!("Parameter \"{name}\" is invalid: '{value}' {why}");
        Self::new(400, "InvalidParameter", "Invalid Parameter", detail)
    }

    pub(super) fn unknown_parameter(name: &str) -> Self {
        let problem = Self::new(400, "BadRequest", "Bad Request", "Bad Request");
        let error = json!([{
            "parameter": format!("query.{name}"),
            "message": format!("Query parameter \"{name}\" is not recognized"),
        }]);
        Self {
            errors: Some(error),
            ..problem
        }
    }

    pub(super) fn unexpected() -> Self {
        Self::new(
            500,
            "UnexpectedProblem",
            "Unexpected Problem",
            "An unexpected problem has occurred.",
        )
    }

    pub(super) fn expired(issued: &str) -> Self {
        let detail = format!("The requested forecast grid was issued {issued} and has expired.");
        Self::new(503, "ForecastGridExpired", "Forecast Grid Expired", detail)
    }

    pub(super) fn not_found(path: &str) -> Self {
        Self::new(
            404,
            "NotFound",
            "Not Found",
            format!("'{path}' is not a valid resource path"),
        )
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let id = uuid::Uuid::new_v4().to_string();
        let mut body = json!({
            "correlationId": id,
            "title": self.title,
            "type": format!("https://api.weather.gov/problems/{}", self.kind),
            "status": self.status,
            "detail": self.detail,
            "instance": format!("https://api.weather.gov/requests/{id}"),
        });
        if let Some(errors) = self.errors {
            body["parameterErrors"] = errors;
        }
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, body.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        let cache = if self.status == 301 {
            "public, max-age=86400"
        } else {
            "private, must-revalidate, max-age=0"
        };
        headers.insert(CACHE_CONTROL, HeaderValue::from_static(cache));
        if let Some(location) = self
            .location
            .and_then(|location| HeaderValue::from_str(&location).ok())
        {
            headers.insert(LOCATION, location);
        }
        response
    }
}
