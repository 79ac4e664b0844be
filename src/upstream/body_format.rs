//! Chooses the form of request bodies: classic, or lite, which newer models may require.
//!
//! `auto` starts with the classic form, which supports more parameters. If the backend rejects it for a model, the
//! request is retried in the lite form; if that succeeds, the lite form is used for the model until the process ends.
//! A body that the client itself wrote in the lite form stays as it is.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use crate::excerpt::{NAME_CHARACTERS, excerpt};
use crate::protocol::codex::{Request, WireFormat};
use crate::protocol::models::Catalogue;

/// The setting `upstream.body`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum BodyForm {
    /// The classic form; the lite form for models that require it.
    #[default]
    Auto,
    /// The classic form.
    Classic,
    /// The lite form, except for models that don't support it according to the catalog.
    Lite,
}

/// The setting, and the models known to require the lite form.
#[derive(Debug)]
pub(super) struct BodyForms {
    setting: BodyForm,
    /// Models that accepted the lite form after they had rejected the classic one.
    lite_models: Mutex<BTreeSet<String>>,
}

impl BodyForms {
    pub(super) fn new(setting: BodyForm) -> Self {
        Self { setting, lite_models: Mutex::default() }
    }

    /// Sets the form of a request's first attempt.
    pub(super) fn choose(&self, request: &mut Request<'_>, catalogue: &Catalogue) {
        let is_lite = match self.setting {
            BodyForm::Auto => self.lite_models.lock().unwrap_or_else(PoisonError::into_inner).contains(&*request.model),
            BodyForm::Classic => false,
            BodyForm::Lite => catalogue.find(&request.model).and_then(|model| model.is_lite) != Some(false),
        };
        if is_lite {
            set_lite(request);
        }
    }

    /// Changes a rejected request to the lite form, if the setting allows it. Returns whether it was changed.
    pub(super) fn try_lite(&self, request: &mut Request<'_>) -> bool {
        self.setting == BodyForm::Auto && set_lite(request)
    }

    /// Records that a model accepted the lite form. With `auto`, its next requests start in that form.
    pub(super) fn record_lite_success(&self, model: &str) {
        if self.setting != BodyForm::Auto {
            return;
        }
        let mut lite_models = self.lite_models.lock().unwrap_or_else(PoisonError::into_inner);
        if lite_models.insert(model.to_owned()) {
            let model = excerpt(model, NAME_CHARACTERS);
            tracing::warn!(model, "the model requires the lite form of requests: using it from now on");
        }
    }
}

/// Changes a classic request to the lite form. Returns whether it was classic.
fn set_lite(request: &mut Request<'_>) -> bool {
    let is_classic = request.format == WireFormat::Classic;
    if is_classic {
        request.format = WireFormat::Lite;
    }
    is_classic
}
