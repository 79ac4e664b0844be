//! Which form a body has: the classic one, or the lite one that newer models may come to insist on.
//!
//! `auto` begins with the classic form, which can say more. A model that refuses it for its form is
//! asked again in the lite form, and from then on, in this process, in the lite form at once;
//! it is learnt from an answer, never from the refusal alone. A body that its client wrote in the lite
//! form is not touched.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use crate::excerpt::{NAME_CHARACTERS, excerpt};
use crate::protocol::codex::{Request, WireFormat};
use crate::protocol::models::Catalogue;

/// The setting `upstream.body`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum BodyForm {
    /// The classic form, until a model refuses it.
    #[default]
    Auto,
    /// The classic form.
    Classic,
    /// The lite form, but for models of which the catalogue says that they have none.
    Lite,
}

/// The setting, and what was learnt.
#[derive(Debug)]
pub(super) struct Forms {
    setting: BodyForm,
    /// Models that answered in the lite form after they had refused the classic one.
    learnt: Mutex<BTreeSet<String>>,
}

impl Forms {
    pub(super) fn new(setting: BodyForm) -> Self {
        Self { setting, learnt: Mutex::default() }
    }

    /// Gives a request the form to begin with.
    pub(super) fn choose(&self, request: &mut Request<'_>, catalogue: &Catalogue) {
        let is_lite = match self.setting {
            BodyForm::Auto => self.learnt.lock().unwrap_or_else(PoisonError::into_inner).contains(&*request.model),
            BodyForm::Classic => false,
            BodyForm::Lite => catalogue.find(&request.model).and_then(|model| model.is_lite) != Some(false),
        };
        if is_lite {
            write_lite(request);
        }
    }

    /// Gives a request that was refused for its form the other one, where it may have it; says whether.
    pub(super) fn try_lite(&self, request: &mut Request<'_>) -> bool {
        self.setting == BodyForm::Auto && write_lite(request)
    }

    /// Takes note that a model answers in the lite form.
    pub(super) fn served(&self, model: &str) {
        if self.setting != BodyForm::Auto {
            return;
        }
        let mut learnt = self.learnt.lock().unwrap_or_else(PoisonError::into_inner);
        if learnt.insert(model.to_owned()) {
            let model = excerpt(model, NAME_CHARACTERS);
            tracing::warn!(model, "the model wants the lite form of requests; it gets it from now on");
        }
    }
}

/// Says whether this changed anything.
fn write_lite(request: &mut Request<'_>) -> bool {
    let is_classic = request.format == WireFormat::Classic;
    if is_classic {
        request.format = WireFormat::Lite;
    }
    is_classic
}
