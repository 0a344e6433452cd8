//! A text that must not be printed: subscription keys and access tokens.
//! In: the text; out: the text on explicit request, and a mask to every formatter.

use std::fmt;

/// A secret text. `Debug` shows a mask, and there is no `Display`, so that no log line can hold it by accident.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretString(String);

impl SecretString {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself; every caller is a place that may leak it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretString {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SecretString(***)")
    }
}

impl From<String> for SecretString {
    fn from(text: String) -> Self {
        Self(text)
    }
}

#[cfg(test)]
mod tests {
    use super::SecretString;

    #[test]
    fn debug_never_shows_the_text() {
        let shown = format!("{:?}", Some(SecretString::new("hunter2")));
        assert_eq!(shown, "Some(SecretString(***))");
    }
}
