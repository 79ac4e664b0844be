//! Matches tool outputs with tool calls for clients that don't always send call ids.
//!
//! An output without an id has the name of its tool, or nothing. It belongs to the first matching call of its turn that
//! has no output yet. An output with an unknown id belongs to the first such call of its name that the client sent
//! without an id. Calls without an id get a generated one; these are numbered from the beginning of the
//! conversation, so that they stay the same while it grows.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};

/// The calls of the current turn. The other maps and lists hold positions in `calls`.
#[derive(Debug)]
pub struct CallMatcher<'a> {
    prefix: &'static str,
    /// Number of ids generated so far in the conversation.
    generated_ids: usize,
    calls: Vec<PendingCall<'a>>,
    by_id: BTreeMap<Cow<'a, str>, VecDeque<usize>>,
    by_name: BTreeMap<Cow<'a, str>, VecDeque<usize>>,
    in_order: VecDeque<usize>,
}

#[derive(Debug)]
struct PendingCall<'a> {
    id: Cow<'a, str>,
    /// The client sent no id.
    is_unnamed: bool,
    has_output: bool,
}

impl<'a> CallMatcher<'a> {
    /// Creates a matcher that generates ids with this prefix.
    #[must_use]
    pub fn new(prefix: &'static str) -> Self {
        Self {
            prefix,
            generated_ids: 0,
            calls: Vec::new(),
            by_id: BTreeMap::new(),
            by_name: BTreeMap::new(),
            in_order: VecDeque::new(),
        }
    }

    /// Starts a user or assistant message: later outputs don't match the calls before it.
    pub fn begin_turn(&mut self) {
        self.calls.clear();
        self.by_id.clear();
        self.by_name.clear();
        self.in_order.clear();
    }

    /// Adds a call. Returns its id, which is generated if `id` is empty.
    pub fn add_call(&mut self, id: Cow<'a, str>, name: Cow<'a, str>) -> Cow<'a, str> {
        let is_unnamed = id.is_empty();
        let id = if is_unnamed {
            self.generated_ids += 1;
            Cow::Owned(format!("{}{}", self.prefix, self.generated_ids))
        } else {
            id
        };
        let position = self.calls.len();
        self.calls.push(PendingCall { id: id.clone(), is_unnamed, has_output: false });
        self.by_id.entry(id.clone()).or_default().push_back(position);
        self.by_name.entry(name).or_default().push_back(position);
        self.in_order.push_back(position);
        id
    }

    /// Returns the id of the call that an output belongs to, found by id, else by tool name, else by position. An id or
    /// name that the client didn't send is empty. If there is no such call, returns `id`.
    pub fn match_output(&mut self, id: Cow<'a, str>, name: &str) -> Cow<'a, str> {
        if !id.is_empty() && !self.by_id.contains_key(&id) {
            return self.match_unnamed(name).unwrap_or(id);
        }
        let mut none = VecDeque::new();
        let candidates = match (&*id, name) {
            ("", "") => &mut self.in_order,
            ("", name) => self.by_name.get_mut(name).unwrap_or(&mut none),
            (id, _) => self.by_id.get_mut(id).unwrap_or(&mut none),
        };
        while let Some(position) = candidates.pop_front() {
            if let Some(call) = self.calls.get_mut(position).filter(|call| !call.has_output) {
                call.has_output = true;
                return call.id.clone();
            }
        }
        id
    }

    /// Returns the id of the first call of a tool that has neither an id of the client nor an output.
    fn match_unnamed(&mut self, name: &str) -> Option<Cow<'a, str>> {
        let calls = &mut self.calls;
        let is_open = |position: &&usize| calls.get(**position).is_some_and(|call| call.is_unnamed && !call.has_output);
        let position = *self.by_name.get(name)?.iter().find(is_open)?;
        let call = self.calls.get_mut(position)?;
        call.has_output = true;
        Some(call.id.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::CallMatcher;

    #[test]
    fn an_output_matches_by_id_by_name_or_by_position() {
        let mut calls = CallMatcher::new("call_");
        assert_eq!(calls.add_call("".into(), "f".into()), "call_1");
        assert_eq!(calls.add_call("own".into(), "g".into()), "own");
        assert_eq!(calls.add_call("".into(), "f".into()), "call_2");
        assert_eq!(calls.add_call("".into(), "h".into()), "call_3");
        assert_eq!(calls.match_output("own".into(), "f"), "own");
        assert_eq!(calls.match_output("".into(), "f"), "call_1");
        assert_eq!(calls.match_output("".into(), ""), "call_2", "calls with an output are skipped");
        assert_eq!(calls.match_output("".into(), "f"), "", "there is no third call of this tool");
        assert_eq!(calls.match_output("".into(), "other"), "");
        assert_eq!(calls.match_output("unknown".into(), ""), "unknown");
        assert_eq!(calls.match_output("".into(), ""), "call_3");
        assert_eq!(calls.match_output("".into(), ""), "");
    }

    #[test]
    fn an_output_with_an_unknown_id_matches_a_call_without_an_id() {
        let mut calls = CallMatcher::new("call_");
        calls.add_call("own".into(), "f".into());
        calls.add_call("".into(), "f".into());
        calls.add_call("".into(), "g".into());
        assert_eq!(calls.match_output("later".into(), "f"), "call_1");
        assert_eq!(calls.match_output("later".into(), "f"), "later", "the other call has an id of its own");
        assert_eq!(calls.match_output("".into(), "g"), "call_2");
        assert_eq!(calls.match_output("later".into(), "g"), "later", "the call has an output");
        assert_eq!(calls.match_output("own".into(), "f"), "own");
    }

    #[test]
    fn an_output_never_matches_a_call_of_an_earlier_turn() {
        let mut calls = CallMatcher::new("call_");
        calls.add_call("".into(), "f".into());
        calls.begin_turn();
        assert_eq!(calls.add_call("".into(), "f".into()), "call_2");
        assert_eq!(calls.match_output("".into(), "f"), "call_2");
        assert_eq!(calls.match_output("".into(), "f"), "");
    }
}
