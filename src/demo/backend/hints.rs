//! What a prompt offers to fill into arguments: places, names, numbers, its own text.
//!
//! Plain guesses by the name of the member. A guess that misses gives the word `demo`, which nobody
//! takes for a model's work.

/// Words before a place or a name.
const LEADS: [&str; 13] =
    ["in", "for", "at", "of", "to", "from", "and", "or", "near", "between", "is", "named", "extract"];
const PLACES: [&str; 9] =
    ["city", "location", "place", "town", "destination", "origin", "country", "region", "address"];
const TEXTS: [&str; 11] =
    ["query", "question", "prompt", "message", "text", "input", "q", "search", "content", "summary", "answer"];
const SAMPLE_PLACES: [&str; 2] = ["Oslo", "Rome"];

/// What can be taken from a prompt.
#[derive(Clone, Debug)]
pub(super) struct Hints {
    said: String,
    names: Vec<String>,
    number: Option<f64>,
    turn: usize,
}

impl Hints {
    /// Reads a prompt.
    pub(super) fn read(said: &str) -> Self {
        let number = said.split_whitespace().find_map(|word| {
            let word = word.trim_matches(|character: char| !character.is_ascii_digit() && character != '-');
            word.parse().ok().filter(|number: &f64| number.abs() < 1e9)
        });
        Self { said: said.to_owned(), names: names(said), number, turn: 0 }
    }

    /// The same for the nth of several calls, which takes the nth place and the nth choice.
    pub(super) fn for_call(&self, turn: usize) -> Self {
        Self { turn, ..self.clone() }
    }

    /// Which of several calls this is for.
    pub(super) fn turn(&self) -> usize {
        self.turn
    }

    /// How many places or names the prompt holds.
    pub(super) fn count(&self) -> usize {
        self.names.len()
    }

    /// The first number in the prompt.
    pub(super) fn number(&self) -> Option<f64> {
        self.number
    }

    /// Whether a member of this name is one for a place.
    pub(super) fn is_place(member: &str) -> bool {
        let member = member.to_lowercase();
        PLACES.iter().any(|place| member.contains(place))
    }

    /// A text for a member of this name, the `index`th in its list.
    pub(super) fn text_for(&self, member: &str, index: usize) -> String {
        let nth = self.turn + index;
        let member = member.to_lowercase();
        if Self::is_place(&member) {
            let sample = || SAMPLE_PLACES[nth % SAMPLE_PLACES.len()].to_owned();
            return self.name(nth).unwrap_or_else(sample);
        }
        if member.ends_with("name") || member.starts_with("participant") || member == "person" {
            return self.name(nth).unwrap_or_else(|| "demo".to_owned());
        }
        if TEXTS.contains(&member.as_str()) && !self.said.is_empty() {
            return self.said.clone();
        }
        if index == 0 { "demo".to_owned() } else { format!("demo {}", index + 1) }
    }

    fn name(&self, nth: usize) -> Option<String> {
        self.names.get(nth).or(self.names.last()).cloned()
    }
}

/// Capitalised words after a word that leads to a name: `Oslo` and `New York` in "in Oslo and New York".
fn names(said: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    // What the next word does: go on with the last name, begin one, or neither.
    let mut state = State::Outside;
    for word in said.split_whitespace() {
        let bare = word.trim_matches(|character: char| !character.is_alphanumeric());
        let is_capital = bare.chars().next().is_some_and(char::is_uppercase) && bare != "I";
        let is_named = is_capital && state != State::Outside;
        match names.last_mut() {
            Some(name) if is_named && state == State::Inside => *name = format!("{name} {bare}"),
            _ if is_named => names.push(bare.to_owned()),
            _ => {}
        }
        let is_lead = word.ends_with(':') || LEADS.contains(&bare.to_lowercase().as_str());
        state = match word.chars().next_back() {
            Some(last) if is_named && last.is_alphanumeric() => State::Inside,
            Some(',') if is_named => State::Before,
            _ if is_lead => State::Before,
            _ => State::Outside,
        };
    }
    names
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Outside,
    Before,
    Inside,
}

#[cfg(test)]
mod tests {
    use super::{Hints, names};

    #[test]
    fn places_are_found_after_the_words_that_lead_to_them() {
        assert_eq!(names("What's the weather in Oslo?"), ["Oslo"]);
        assert_eq!(names("Weather in Oslo and Rome, please"), ["Oslo", "Rome"]);
        assert_eq!(names("from New York to San Francisco."), ["New York", "San Francisco"]);
        assert_eq!(names("in Oslo, Rome and Bern"), ["Oslo", "Rome", "Bern"]);
        assert_eq!(names("Extract: Bob is 5."), ["Bob"]);
        assert!(names("Hello there").is_empty());
    }

    #[test]
    fn a_member_takes_what_its_name_asks_for() {
        let hints = Hints::read("Weather in Oslo and Rome for 3 days");
        assert_eq!(hints.text_for("city", 0), "Oslo");
        assert_eq!(hints.for_call(1).text_for("location", 0), "Rome");
        assert_eq!(hints.text_for("query", 0), "Weather in Oslo and Rome for 3 days");
        assert_eq!(hints.text_for("command", 0), "demo");
        assert_eq!(hints.number(), Some(3.0));
        assert_eq!(Hints::read("hi").text_for("city", 0), "Oslo");
    }
}
