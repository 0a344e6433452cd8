//! Times in fixtures: `date:now -287 seconds`, `date:now:hour 8 hours`, `date:today 11:00:-06 +2 days`, and the first
//! with a duration behind it.
//! In: a fixture and now. Out: the fixture with RFC 3339 times.

use jiff::tz::{Offset, TimeZone};
use jiff::{Span, Timestamp, Zoned};
use serde_json::Value;

/// Replaces every template. What is not understood stays as it is.
pub(super) fn resolve(value: &mut Value, now: Timestamp) {
    match value {
        Value::String(text) => {
            if let Some(time) = text
                .strip_prefix("date:")
                .and_then(|template| read(template, now))
            {
                *text = time;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| resolve(item, now)),
        Value::Object(members) => members.values_mut().for_each(|member| resolve(member, now)),
        _ => {}
    }
}

fn read(template: &str, now: Timestamp) -> Option<String> {
    let (template, duration) = template
        .split_once(" / ")
        .map_or((template, None), |(time, span)| (time, Some(span)));
    let mut words = template.split(' ');
    let base = words.next()?;
    let time = match base {
        "now" => now.to_zoned(TimeZone::UTC),
        "now:hour" => {
            let second = now.as_second();
            Timestamp::from_second(second - second.rem_euclid(3600))
                .ok()?
                .to_zoned(TimeZone::UTC)
        }
        "today" => today(words.next()?, now)?,
        _ => return None,
    };
    let time = match (words.next(), words.next()) {
        (None, _) => time,
        (Some(count), Some(unit)) => {
            let count: i64 = count.trim_start_matches('+').parse().ok()?;
            let span = match unit {
                "seconds" => Span::new().seconds(count),
                "hours" => Span::new().hours(count),
                "days" => Span::new().days(count),
                _ => return None,
            };
            time.checked_add(span).ok()?
        }
        (Some(_), None) => return None,
    };
    let text = time.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string();
    Some(duration.map_or(text.clone(), |duration| format!("{text}/{duration}")))
}

/// `18:32:-06`: a time of this day at an offset from UTC.
fn today(clock: &str, now: Timestamp) -> Option<Zoned> {
    let mut parts = clock.split(':');
    let (hour, minute) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let offset = Offset::from_hours(parts.next()?.parse().ok()?).ok()?;
    now.to_zoned(TimeZone::fixed(offset))
        .with()
        .hour(hour)
        .minute(minute)
        .second(0)
        .subsec_nanosecond(0)
        .build()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn templates_become_times() {
        let now: Timestamp = "2026-03-05T10:20:30Z".parse().unwrap();
        for (template, expected) in [
            ("date:now -30 seconds", "2026-03-05T10:20:00+00:00"),
            ("date:now +3600 seconds", "2026-03-05T11:20:30+00:00"),
            ("date:now:hour 0 hours", "2026-03-05T10:00:00+00:00"),
            (
                "date:now -30 seconds / P7DT4H",
                "2026-03-05T10:20:00+00:00/P7DT4H",
            ),
            ("date:today 11:00:-06 +2 days", "2026-03-07T11:00:00-06:00"),
            ("date:today 18:32:-06", "2026-03-05T18:32:00-06:00"),
            ("not a date", "not a date"),
            ("date:never", "date:never"),
        ] {
            let mut value = json!({"a": [template]});
            resolve(&mut value, now);
            assert_eq!(value["a"][0], expected, "{template}");
        }
    }
}
