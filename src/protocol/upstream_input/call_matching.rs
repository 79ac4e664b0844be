//! Calls of clients that know no ids, or not always.
//!
//! An output then says no more than the name of its tool, or nothing at all: it answers the first
//! call of its turn that fits and has no answer yet. Ids that are made up here count from the
//! beginning of the conversation, so that they stay the same while it grows.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};

/// The calls of a turn, by what an output may say of them.
#[derive(Debug)]
pub struct CallMatcher<'a> {
    prefix: &'static str,
    /// Ids made up so far.
    made_up: usize,
    calls: Vec<Open<'a>>,
    by_id: BTreeMap<Cow<'a, str>, VecDeque<usize>>,
    by_name: BTreeMap<Cow<'a, str>, VecDeque<usize>>,
    in_order: VecDeque<usize>,
}

#[derive(Debug)]
struct Open<'a> {
    id: Cow<'a, str>,
    is_answered: bool,
}

impl<'a> CallMatcher<'a> {
    /// No calls yet; `prefix` is what made-up ids begin with.
    #[must_use]
    pub fn new(prefix: &'static str) -> Self {
        Self {
            prefix,
            made_up: 0,
            calls: Vec::new(),
            by_id: BTreeMap::new(),
            by_name: BTreeMap::new(),
            in_order: VecDeque::new(),
        }
    }

    /// A turn begins: what was called before can't be answered any more.
    pub fn forget(&mut self) {
        self.calls.clear();
        self.by_id.clear();
        self.by_name.clear();
        self.in_order.clear();
    }

    /// Takes note of a call; gives its id, made up where it has none.
    pub fn call(&mut self, id: Cow<'a, str>, name: Cow<'a, str>) -> Cow<'a, str> {
        let id = if id.is_empty() {
            self.made_up += 1;
            Cow::Owned(format!("{}{}", self.prefix, self.made_up))
        } else {
            id
        };
        let position = self.calls.len();
        self.calls.push(Open { id: id.clone(), is_answered: false });
        self.by_id.entry(id.clone()).or_default().push_back(position);
        self.by_name.entry(name).or_default().push_back(position);
        self.in_order.push_back(position);
        id
    }

    /// The id of the call that an output answers, by its id, else by its name, else by its place;
    /// what is not said is empty. An id stays as it is, a call that is not there has none.
    pub fn answer(&mut self, id: Cow<'a, str>, name: &str) -> Cow<'a, str> {
        let mut nothing = VecDeque::new();
        let candidates = match (&*id, name) {
            ("", "") => &mut self.in_order,
            ("", name) => self.by_name.get_mut(name).unwrap_or(&mut nothing),
            (id, _) => self.by_id.get_mut(id).unwrap_or(&mut nothing),
        };
        while let Some(position) = candidates.pop_front() {
            if let Some(call) = self.calls.get_mut(position).filter(|call| !call.is_answered) {
                call.is_answered = true;
                return call.id.clone();
            }
        }
        id
    }
}

#[cfg(test)]
mod tests {
    use super::CallMatcher;

    #[test]
    fn an_output_answers_by_id_by_name_or_by_place() {
        let mut calls = CallMatcher::new("call_");
        assert_eq!(calls.call("".into(), "f".into()), "call_1");
        assert_eq!(calls.call("own".into(), "g".into()), "own");
        assert_eq!(calls.call("".into(), "f".into()), "call_2");
        assert_eq!(calls.call("".into(), "h".into()), "call_3");
        assert_eq!(calls.answer("own".into(), "f"), "own");
        assert_eq!(calls.answer("".into(), "f"), "call_1");
        assert_eq!(calls.answer("".into(), ""), "call_2", "the answered ones are passed over");
        assert_eq!(calls.answer("".into(), "f"), "", "there is no third call of it");
        assert_eq!(calls.answer("".into(), "other"), "");
        assert_eq!(calls.answer("strange".into(), ""), "strange");
        assert_eq!(calls.answer("".into(), ""), "call_3");
        assert_eq!(calls.answer("".into(), ""), "");
    }

    #[test]
    fn a_call_of_an_earlier_turn_is_not_answered() {
        let mut calls = CallMatcher::new("call_");
        calls.call("".into(), "f".into());
        calls.forget();
        assert_eq!(calls.call("".into(), "f".into()), "call_2");
        assert_eq!(calls.answer("".into(), "f"), "call_2");
        assert_eq!(calls.answer("".into(), "f"), "");
    }
}
