//! Pairs tool outputs with tool calls and assigns unique call ids.
//!
//! The backend requires one output for each call, and unique call ids. Histories violate the first after compaction or
//! interruption, the second with models that number their calls from zero in every turn. This module returns decisions
//! and edits nothing; [`PairingItem`]s represent the items of any dialect. If several calls have the id of an output,
//! it belongs to the latest group of adjacent ones, and in that to the first without an output.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::names;
use crate::protocol::Warnings;

/// An item of a history, as far as pairing needs it.
#[derive(Clone, Debug)]
pub enum PairingItem<'m> {
    /// The start of a user or assistant message.
    Turn,
    /// A call: its id as the client sent it, which may be empty, and the index of its message and of the call in it.
    Call(&'m str, (usize, usize)),
    /// An output: the call id as the client sent it, which may be empty.
    Output(&'m str),
    /// Anything else.
    Other,
}

/// How far from its call an output may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputScope {
    /// Before the next user or assistant message.
    Turn,
    /// Anywhere after the call.
    Conversation,
}

/// The decision about a [`PairingItem`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pairing {
    /// A call: its id for the backend, and whether it has an output.
    Call(String, OutputStatus),
    /// An output: the index of its call.
    Output(usize),
    /// An output whose call is missing or out of scope.
    Orphan,
    /// An output of a call that already has one.
    Repeated,
    /// Neither a call nor an output.
    Other,
}

/// Whether a call has an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputStatus {
    /// The call has an output.
    Present,
    /// The call has no output.
    Missing,
}

/// Pairs all items and returns one decision per item. Notes orphaned and repeated outputs and duplicate ids as
/// warnings.
pub fn pair<'m>(
    items: impl IntoIterator<Item = PairingItem<'m>>,
    scope: OutputScope,
    warnings: &mut Warnings,
) -> Vec<Pairing> {
    let mut pairings = Vec::new();
    let mut ids = CallIds::default();
    let mut open = OpenCalls::default();
    for item in items {
        let index = pairings.len();
        let pairing = match item {
            PairingItem::Turn if scope == OutputScope::Turn => {
                open = OpenCalls::default();
                Pairing::Other
            }
            PairingItem::Turn | PairingItem::Other => {
                open.end_group();
                Pairing::Other
            }
            PairingItem::Call(id, position) => {
                open.add(id, index);
                Pairing::Call(ids.assign(id, position, warnings), OutputStatus::Missing)
            }
            PairingItem::Output(id) => {
                open.end_group();
                open.pair_output(id, warnings)
            }
        };
        if let Pairing::Output(call) = pairing
            && let Some(Pairing::Call(_, output)) = pairings.get_mut(call)
        {
            *output = OutputStatus::Present;
        }
        pairings.push(pairing);
    }
    pairings
}

/// The ids assigned so far.
#[derive(Default)]
struct CallIds<'m> {
    uses: BTreeMap<&'m str, usize>,
    taken: BTreeSet<String>,
}

impl<'m> CallIds<'m> {
    fn assign(&mut self, id: &'m str, (message, call): (usize, usize), warnings: &mut Warnings) -> String {
        let (base, mut once) = (generated_or(id, message, call), 0);
        let uses = if id.is_empty() { &mut once } else { self.uses.entry(id).or_default() };
        loop {
            *uses += 1;
            let candidate = if *uses == 1 { Cow::Borrowed(&*base) } else { Cow::Owned(format!("{base}_{uses}")) };
            let upstream = names::call_id(candidate).into_owned();
            if self.taken.insert(upstream.clone()) {
                if *uses > 1 {
                    warnings.note("repaired:duplicate_tool_call_id");
                }
                return upstream;
            }
        }
    }
}

/// Returns the client's id, or one that is derived from the position of the call.
fn generated_or(id: &str, message: usize, call: usize) -> Cow<'_, str> {
    if id.is_empty() { Cow::Owned(format!("call_m{message}_{call}")) } else { Cow::Borrowed(id) }
}

/// The calls in scope that have no output yet, by position among the items.
#[derive(Default)]
struct OpenCalls<'m> {
    /// For each id, its numbered groups of adjacent calls, latest last. Empty if all calls with the id have an output.
    groups: BTreeMap<&'m str, Vec<(usize, VecDeque<usize>)>>,
    /// Number of the current group; calls with something between them are in different groups.
    group: usize,
}

impl<'m> OpenCalls<'m> {
    fn end_group(&mut self) {
        self.group += 1;
    }

    fn add(&mut self, id: &'m str, position: usize) {
        let groups = self.groups.entry(id).or_default();
        match groups.last_mut() {
            Some((group, calls)) if *group == self.group => calls.push_back(position),
            _ => groups.push((self.group, VecDeque::from([position]))),
        }
    }

    fn pair_output(&mut self, id: &str, warnings: &mut Warnings) -> Pairing {
        let Some(groups) = self.groups.get_mut(id) else {
            warnings.note("repaired:orphan_tool_output");
            return Pairing::Orphan;
        };
        let call = groups.last_mut().and_then(|(_, calls)| calls.pop_front());
        groups.pop_if(|(_, calls)| calls.is_empty());
        call.map_or_else(
            || {
                warnings.note("repaired:duplicate_tool_output");
                Pairing::Repeated
            },
            Pairing::Output,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::{OutputScope, OutputStatus, Pairing, PairingItem, pair};
    use crate::protocol::Warnings;

    fn decide(items: &[PairingItem<'static>], scope: OutputScope) -> (Vec<Pairing>, Vec<String>) {
        let mut warnings = Warnings::default();
        let pairings = pair(items.iter().cloned(), scope, &mut warnings);
        (pairings, warnings.tokens().to_vec())
    }

    fn call(id: &str, output: OutputStatus) -> Pairing {
        Pairing::Call(id.to_owned(), output)
    }

    const AT: (usize, usize) = (0, 0);

    #[test]
    fn an_output_belongs_to_a_call_of_its_turn() {
        use PairingItem::{Call, Output, Turn};
        let (pairings, tokens) =
            decide(&[Turn, Call("a", AT), Call("b", AT), Output("b"), Turn, Output("a")], OutputScope::Turn);
        assert_eq!(
            pairings[1..4],
            [call("a", OutputStatus::Missing), call("b", OutputStatus::Present), Pairing::Output(2)]
        );
        assert_eq!(pairings[5], Pairing::Orphan);
        assert_eq!(tokens, ["repaired:orphan_tool_output"]);
    }

    #[test]
    fn in_a_whole_conversation_the_latest_group_is_paired_first() {
        use PairingItem::{Call, Other, Output, Turn};
        let items = [
            Call("a", AT),
            Turn,
            Call("a", AT),
            Call("a", AT),
            Other,
            Output("a"),
            Output("a"),
            Output("a"),
            Output("a"),
        ];
        let (pairings, tokens) = decide(&items, OutputScope::Conversation);
        assert_eq!(pairings[5..], [Pairing::Output(2), Pairing::Output(3), Pairing::Output(0), Pairing::Repeated]);
        assert_eq!(tokens, ["repaired:duplicate_tool_call_id", "repaired:duplicate_tool_output"]);
    }

    #[test]
    fn every_assigned_id_is_unique() {
        use PairingItem::{Call, Turn};
        let items = [
            Call("a", AT),
            Call("a", AT),
            Turn,
            Call("a_2", AT),
            Call("", (3, 1)),
            Call("a", AT),
            Call("é", AT),
            Call("call_m9_9", AT),
            Call("", (9, 9)),
        ];
        let (pairings, _) = decide(&items, OutputScope::Turn);
        let mut ids: Vec<_> = pairings
            .iter()
            .filter_map(|pairing| match pairing {
                Pairing::Call(id, _) => Some(id.as_str()),
                _ => None,
            })
            .collect();
        assert_eq!(ids[..5], ["a", "a_2", "a_2_2", "call_m3_1", "a_3"]);
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 8);
    }

    #[test]
    fn outputs_pair_with_calls_of_one_id_in_order() {
        use PairingItem::{Call, Output};
        let (pairings, tokens) =
            decide(&[Call("a", AT), Call("a", AT), Output("a"), Output("a"), Output("a")], OutputScope::Turn);
        assert_eq!(pairings[2..], [Pairing::Output(0), Pairing::Output(1), Pairing::Repeated]);
        assert_eq!(tokens, ["repaired:duplicate_tool_call_id", "repaired:duplicate_tool_output"]);
    }
}
