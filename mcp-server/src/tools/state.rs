//! States and territories that have alerts of their own: a code in any case or a name goes in, the code for the path comes out.

/// What to pass as a state, for an error that someone should learn from.
pub const HINT: &str = "pass a two-letter code such as \"CA\" or a full name such as \"California\"";

/// One of the areas below; nothing else can reach the path of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct State(u8);

impl State {
    /// From a two-letter code in any case, or a full name; dots, commas and extra spaces do not count.
    pub fn parse(text: &str) -> Option<State> {
        if text.len() > 64 {
            return None;
        }
        let plain: String = text
            .chars()
            .filter(|letter| !matches!(letter, '.' | ','))
            .collect();
        let mut words: Vec<&str> = plain.split_ascii_whitespace().collect();
        if words.first().is_some_and(|word| word.eq_ignore_ascii_case("us")) {
            words.remove(0);
        }
        let name = words.join(" ");
        let matches = |known: &str| known.eq_ignore_ascii_case(&name);
        let place = AREAS.iter().position(|(code, long, also)| {
            matches(code) || matches(long) || also.iter().any(|alias| matches(alias))
        })?;
        u8::try_from(place).ok().map(State)
    }

    /// Every code, then every name, that begins with `prefix` in any case.
    pub fn beginning_with(prefix: &str) -> impl Iterator<Item = &'static str> {
        let prefix = prefix.trim_start();
        let codes = AREAS.iter().map(|(code, _, _)| *code);
        let names = AREAS.iter().map(|(_, name, _)| *name);
        codes.chain(names).filter(move |text| {
            text.get(..prefix.len())
                .is_some_and(|head| head.eq_ignore_ascii_case(prefix))
        })
    }

    /// The full name.
    pub fn name(self) -> &'static str {
        AREAS.get(usize::from(self.0)).map_or("", |(_, name, _)| name)
    }

    /// The two-letter code, in upper case.
    pub fn code(self) -> &'static str {
        AREAS.get(usize::from(self.0)).map_or("", |(code, _, _)| code)
    }
}

/// StateTerritoryCode of the NWS OpenAPI document (1.9.0): codes, names, other names in use.
const AREAS: [(&str, &str, &[&str]); 55] = [
    ("AL", "Alabama", &[]),
    ("AK", "Alaska", &[]),
    ("AS", "American Samoa", &[]),
    ("AR", "Arkansas", &[]),
    ("AZ", "Arizona", &[]),
    ("CA", "California", &[]),
    ("CO", "Colorado", &[]),
    ("CT", "Connecticut", &[]),
    ("DE", "Delaware", &[]),
    ("DC", "District of Columbia", &["Washington DC", "Washington D C"]),
    ("FL", "Florida", &[]),
    ("GA", "Georgia", &[]),
    ("GU", "Guam", &[]),
    ("HI", "Hawaii", &["Hawai'i"]),
    ("ID", "Idaho", &[]),
    ("IL", "Illinois", &[]),
    ("IN", "Indiana", &[]),
    ("IA", "Iowa", &[]),
    ("KS", "Kansas", &[]),
    ("KY", "Kentucky", &[]),
    ("LA", "Louisiana", &[]),
    ("ME", "Maine", &[]),
    ("MD", "Maryland", &[]),
    ("MA", "Massachusetts", &[]),
    ("MI", "Michigan", &[]),
    ("MN", "Minnesota", &[]),
    ("MS", "Mississippi", &[]),
    ("MO", "Missouri", &[]),
    ("MT", "Montana", &[]),
    ("NE", "Nebraska", &[]),
    ("NV", "Nevada", &[]),
    ("NH", "New Hampshire", &[]),
    ("NJ", "New Jersey", &[]),
    ("NM", "New Mexico", &[]),
    ("NY", "New York", &["New York State"]),
    ("NC", "North Carolina", &[]),
    ("ND", "North Dakota", &[]),
    ("OH", "Ohio", &[]),
    ("OK", "Oklahoma", &[]),
    ("OR", "Oregon", &[]),
    ("PA", "Pennsylvania", &[]),
    ("PR", "Puerto Rico", &[]),
    ("RI", "Rhode Island", &[]),
    ("SC", "South Carolina", &[]),
    ("SD", "South Dakota", &[]),
    ("TN", "Tennessee", &[]),
    ("TX", "Texas", &[]),
    ("UT", "Utah", &[]),
    ("VT", "Vermont", &[]),
    ("VI", "Virgin Islands", &[]),
    ("VA", "Virginia", &[]),
    ("WA", "Washington", &["Washington State"]),
    ("WV", "West Virginia", &[]),
    ("WI", "Wisconsin", &[]),
    ("WY", "Wyoming", &[]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_codes_and_names_in_any_case() {
        for (text, code) in [
            ("CA", "CA"),
            ("ca", "CA"),
            ("California", "CA"),
            (" new york ", "NY"),
            ("NEW  MEXICO", "NM"),
            ("Washington", "WA"),
            ("Washington, D.C.", "DC"),
            ("D.C.", "DC"),
            ("U.S. Virgin Islands", "VI"),
        ] {
            assert_eq!(State::parse(text).map(State::code), Some(code), "{text}");
        }
        for text in [
            "", " ", "X", "XX", "Calif", "USA", "US", "AM", "Ontario", "CA, NY",
        ] {
            assert_eq!(State::parse(text), None, "{text}");
        }
    }

    #[test]
    fn every_suggestion_is_read_as_what_it_was_suggested_for() {
        assert_eq!(State::beginning_with("").count(), 2 * AREAS.len());
        for text in State::beginning_with("") {
            let state = State::parse(text).unwrap();
            assert!(text == state.code() || text == state.name(), "{text}");
        }
        assert_eq!(
            State::beginning_with(" wa").collect::<Vec<_>>(),
            ["WA", "Washington"]
        );
        assert_eq!(State::beginning_with("é").count(), 0);
    }

    #[test]
    fn codes_are_distinct() {
        let mut codes: Vec<_> = AREAS.iter().map(|(code, _, _)| code).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), AREAS.len());
    }
}
