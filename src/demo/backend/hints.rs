//! Values for tool arguments and structured output, taken from the prompt: places, names, a number, the whole text.
//!
//! Which of them a text member gets depends on its name. Without a match, it gets `demo`.

/// Words that precede a place or a name.
const NAME_PREPOSITIONS: [&str; 13] =
    ["in", "for", "at", "of", "to", "from", "and", "or", "near", "between", "is", "named", "extract"];
/// Parts of the names of members that hold a place.
const PLACE_MEMBERS: [&str; 9] =
    ["city", "location", "place", "town", "destination", "origin", "country", "region", "address"];
/// Names of members that get the whole text.
const TEXT_MEMBERS: [&str; 11] =
    ["query", "question", "prompt", "message", "text", "input", "q", "search", "content", "summary", "answer"];
/// Places for a prompt that has none.
const SAMPLE_PLACES: [&str; 2] = ["Oslo", "Rome"];

/// The values found in a prompt.
#[derive(Clone, Debug)]
pub(super) struct Hints {
    user_text: String,
    names: Vec<String>,
    number: Option<f64>,
    /// Index of the call among several of the same tool.
    call_index: usize,
}

impl Hints {
    /// Extracts the values from a prompt.
    pub(super) fn read(user_text: &str) -> Self {
        let number = user_text.split_whitespace().find_map(|word| {
            let word = word.trim_matches(|character: char| !character.is_ascii_digit() && character != '-');
            word.parse().ok().filter(|number: &f64| number.abs() < 1e9)
        });
        Self { user_text: user_text.to_owned(), names: names(user_text), number, call_index: 0 }
    }

    /// The values for one of several calls of the same tool, by its index: each call gets another place and enum value.
    pub(super) fn for_call(&self, call_index: usize) -> Self {
        Self { call_index, ..self.clone() }
    }

    /// The index of the call among several of the same tool.
    pub(super) fn call_index(&self) -> usize {
        self.call_index
    }

    /// The number of places and names in the prompt.
    pub(super) fn count(&self) -> usize {
        self.names.len()
    }

    /// The first number in the prompt.
    pub(super) fn number(&self) -> Option<f64> {
        self.number
    }

    /// Returns whether a member with this name holds a place.
    pub(super) fn is_place(member: &str) -> bool {
        let member = member.to_lowercase();
        PLACE_MEMBERS.iter().any(|place| member.contains(place))
    }

    /// Returns text for a member with this name; for one of a list, `index` is its index in the list.
    pub(super) fn text_for(&self, member: &str, index: usize) -> String {
        let nth = self.call_index + index;
        let member = member.to_lowercase();
        if Self::is_place(&member) {
            let sample = || SAMPLE_PLACES[nth % SAMPLE_PLACES.len()].to_owned();
            return self.name(nth).unwrap_or_else(sample);
        }
        if member.ends_with("name") || member.starts_with("participant") || member == "person" {
            return self.name(nth).unwrap_or_else(|| "demo".to_owned());
        }
        if TEXT_MEMBERS.contains(&member.as_str()) && !self.user_text.is_empty() {
            return self.user_text.clone();
        }
        if index == 0 { "demo".to_owned() } else { format!("demo {}", index + 1) }
    }

    /// The nth name, or the last one.
    fn name(&self, nth: usize) -> Option<String> {
        self.names.get(nth).or(self.names.last()).cloned()
    }
}

/// Capitalized words after one of [`NAME_PREPOSITIONS`]: `Oslo` and `New York` in "in Oslo and New York".
fn names(user_text: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    let mut state = State::Outside;
    for word in user_text.split_whitespace() {
        let bare = word.trim_matches(|character: char| !character.is_alphanumeric());
        let is_capital = bare.chars().next().is_some_and(char::is_uppercase) && bare != "I";
        let is_named = is_capital && state != State::Outside;
        match names.last_mut() {
            Some(name) if is_named && state == State::Inside => *name = format!("{name} {bare}"),
            _ if is_named => names.push(bare.to_owned()),
            _ => {}
        }
        let is_lead = word.ends_with(':') || NAME_PREPOSITIONS.contains(&bare.to_lowercase().as_str());
        state = match word.chars().next_back() {
            Some(last) if is_named && last.is_alphanumeric() => State::Inside,
            Some(',') if is_named => State::Before,
            _ if is_lead => State::Before,
            _ => State::Outside,
        };
    }
    names
}

/// Whether the next word can be a name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// It can't.
    Outside,
    /// It may start one.
    Before,
    /// It may start one, or continue the last one.
    Inside,
}

#[cfg(test)]
mod tests {
    use super::{Hints, names};

    #[test]
    fn places_are_found_after_prepositions() {
        assert_eq!(names("What's the weather in Oslo?"), ["Oslo"]);
        assert_eq!(names("Weather in Oslo and Rome, please"), ["Oslo", "Rome"]);
        assert_eq!(names("from New York to San Francisco."), ["New York", "San Francisco"]);
        assert_eq!(names("in Oslo, Rome and Bern"), ["Oslo", "Rome", "Bern"]);
        assert_eq!(names("Extract: Bob is 5."), ["Bob"]);
        assert!(names("Hello there").is_empty());
    }

    #[test]
    fn a_member_gets_a_value_that_fits_its_name() {
        let hints = Hints::read("Weather in Oslo and Rome for 3 days");
        assert_eq!(hints.text_for("city", 0), "Oslo");
        assert_eq!(hints.for_call(1).text_for("location", 0), "Rome");
        assert_eq!(hints.text_for("query", 0), "Weather in Oslo and Rome for 3 days");
        assert_eq!(hints.text_for("command", 0), "demo");
        assert_eq!(hints.number(), Some(3.0));
        assert_eq!(Hints::read("hi").text_for("city", 0), "Oslo");
    }
}
