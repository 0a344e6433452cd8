//! Texts for status. In: an error's text; out: the same without what differs each time the same thing goes wrong.
//! A status that changed with every failure would be a write with every failure. The log keeps the whole text.

/// Drops Entra's trace (`Trace ID: .. Correlation ID: .. Timestamp: ..`) and ARM's correlation id.
pub fn steady(text: &str) -> String {
    const TRACE: &str = "Trace ID:";
    const CORRELATION: &str = " (correlation id ";
    let mut kept = text.to_owned();
    while let Some(start) = kept.find(CORRELATION) {
        let end = kept[start..]
            .find(')')
            .map_or(kept.len(), |length| start + length + 1);
        kept.replace_range(start..end, "");
    }
    // Entra puts these last, in this order.
    if let Some(start) = kept.find(TRACE) {
        kept.truncate(start);
    }
    kept.truncate(kept.trim_end().len());
    kept
}

#[cfg(test)]
mod tests {
    use super::steady;

    #[test]
    fn what_changes_is_dropped() {
        let cases = [
            (
                "failed to get api x: busy (correlation id 1-2)",
                "failed to get api x: busy",
            ),
            ("a (correlation id 1) b (correlation id 2", "a b"),
            (
                "AADSTS700016: Application 'x' was not found. Trace ID: 1 Correlation ID: 2 Timestamp: 2026-11-21 10:00:00Z",
                "AADSTS700016: Application 'x' was not found.",
            ),
            ("plain", "plain"),
        ];
        for (text, expected) in cases {
            assert_eq!(steady(text), expected);
        }
    }
}
