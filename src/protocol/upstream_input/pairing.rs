//! Which output answers which call, and under which id, whatever happened to the history.
//!
//! The backend wants one output for each call, and each call id once. Histories come damaged by
//! compaction, interruption and models that count their calls from zero on every turn. This is the
//! decision alone, over marks that stand for the items of any dialect; linear in their number.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::names;
use crate::protocol::Warnings;

/// What pairing sees of an item.
#[derive(Clone, Debug)]
pub enum PairingItem<'m> {
    /// A message of the user or the assistant begins.
    Turn,
    /// A call: its id as the client sent it (empty: none), and where it stands in the request.
    Call(&'m str, (usize, usize)),
    /// An output: the id of its call as the client sent it.
    Output(&'m str),
    /// Anything else.
    Other,
}

/// How far from its call an output may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputScope {
    /// Before the next message of the user or the assistant.
    Turn,
    /// Anywhere after it.
    Conversation,
}

/// What became of an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pairing {
    /// A call: its id upstream, and whether an output answers it.
    Call(String, OutputStatus),
    /// An output: the position of the call that it answers.
    Answers(usize),
    /// An output whose call is not there.
    Orphan,
    /// A further output for a call that has one.
    Repeated,
    /// No call and no output.
    Other,
}

/// Whether a call has an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputStatus {
    /// It has.
    Present,
    /// It has none.
    Missing,
}

/// Decides over all items, one pairing for each mark. Notes orphans, repeated outputs and reused ids.
pub fn pair<'m>(
    marks: impl IntoIterator<Item = PairingItem<'m>>,
    reach: OutputScope,
    warnings: &mut Warnings,
) -> Vec<Pairing> {
    let mut pairings = Vec::new();
    let mut ids = CallIds::default();
    let mut open = OpenCalls::default();
    for mark in marks {
        let position = pairings.len();
        let pairing = match mark {
            PairingItem::Turn if reach == OutputScope::Turn => {
                open = OpenCalls::default();
                Pairing::Other
            }
            PairingItem::Turn | PairingItem::Other => {
                open.end_group();
                Pairing::Other
            }
            PairingItem::Call(id, place) => {
                open.add(id, position);
                Pairing::Call(ids.assign(id, place, warnings), OutputStatus::Missing)
            }
            PairingItem::Output(id) => {
                open.end_group();
                open.answer(id, warnings)
            }
        };
        if let Pairing::Answers(call) = pairing
            && let Some(Pairing::Call(_, answered)) = pairings.get_mut(call)
        {
            *answered = OutputStatus::Present;
        }
        pairings.push(pairing);
    }
    pairings
}

/// The ids given out so far.
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
            let wanted = if *uses == 1 { Cow::Borrowed(&*base) } else { Cow::Owned(format!("{base}_{uses}")) };
            let upstream = names::call_id(wanted).into_owned();
            if self.taken.insert(upstream.clone()) {
                if *uses > 1 {
                    warnings.note("repaired:duplicate_tool_call_id");
                }
                return upstream;
            }
        }
    }
}

fn generated_or(id: &str, message: usize, call: usize) -> Cow<'_, str> {
    if id.is_empty() { Cow::Owned(format!("call_m{message}_{call}")) } else { Cow::Borrowed(id) }
}

/// The calls that an output can still answer.
#[derive(Default)]
struct OpenCalls<'m> {
    /// For each id its groups of adjacent calls, latest last; empty when all are answered.
    groups: BTreeMap<&'m str, Vec<(usize, VecDeque<usize>)>>,
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

    fn answer(&mut self, id: &str, warnings: &mut Warnings) -> Pairing {
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
            Pairing::Answers,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::{OutputScope, OutputStatus, Pairing, PairingItem, pair};
    use crate::protocol::Warnings;

    fn judge(marks: &[PairingItem<'static>], reach: OutputScope) -> (Vec<Pairing>, Vec<String>) {
        let mut warnings = Warnings::default();
        let pairings = pair(marks.iter().cloned(), reach, &mut warnings);
        (pairings, warnings.tokens().to_vec())
    }

    fn call(id: &str, answered: OutputStatus) -> Pairing {
        Pairing::Call(id.to_owned(), answered)
    }

    const AT: (usize, usize) = (0, 0);

    #[test]
    fn an_output_answers_the_call_of_its_turn() {
        use PairingItem::{Call, Output, Turn};
        let (pairings, tokens) =
            judge(&[Turn, Call("a", AT), Call("b", AT), Output("b"), Turn, Output("a")], OutputScope::Turn);
        assert_eq!(
            pairings[1..4],
            [call("a", OutputStatus::Missing), call("b", OutputStatus::Present), Pairing::Answers(2)]
        );
        assert_eq!(pairings[5], Pairing::Orphan);
        assert_eq!(tokens, ["repaired:orphan_tool_output"]);
    }

    #[test]
    fn with_a_longer_reach_the_latest_group_is_answered_first() {
        use PairingItem::{Call, Other, Output, Turn};
        let marks = [
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
        let (pairings, tokens) = judge(&marks, OutputScope::Conversation);
        assert_eq!(pairings[5..], [Pairing::Answers(2), Pairing::Answers(3), Pairing::Answers(0), Pairing::Repeated]);
        assert_eq!(tokens, ["repaired:duplicate_tool_call_id", "repaired:duplicate_tool_output"]);
    }

    #[test]
    fn every_id_upstream_is_unique() {
        use PairingItem::{Call, Turn};
        let marks = [
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
        let (pairings, _) = judge(&marks, OutputScope::Turn);
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
    fn outputs_answer_calls_of_one_id_in_order() {
        use PairingItem::{Call, Output};
        let (pairings, tokens) =
            judge(&[Call("a", AT), Call("a", AT), Output("a"), Output("a"), Output("a")], OutputScope::Turn);
        assert_eq!(pairings[2..], [Pairing::Answers(0), Pairing::Answers(1), Pairing::Repeated]);
        assert_eq!(tokens, ["repaired:duplicate_tool_call_id", "repaired:duplicate_tool_output"]);
    }
}
