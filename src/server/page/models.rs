//! The models that clients can name.

use maud::{Markup, html};

use super::format::count;
use super::html::{name, text};
use crate::protocol::models::{Model, Models};
use crate::server::models::named_models;

pub(super) fn section(models: &Models) -> Markup {
    let named = named_models(models);
    html! {
        section #models aria-labelledby="models-title" {
            h2 #models-title { "Models" }
            @if named.is_empty() {
                p.empty { "The backend hasn’t listed any models yet. Requests for any model are passed on." }
            } @else {
                table.models {
                    caption.unseen { "Models that clients can request" }
                    thead {
                        tr {
                            th scope="col" { "Name" }
                            th.number scope="col" { "Window" }
                            th scope="col" { "Effort, input" }
                        }
                    }
                    tbody { @for (name, model) in named { (row(name, model)) } }
                }
            }
        }
    }
}

fn row(id: &str, model: &Model) -> Markup {
    let efforts: Vec<&str> = model.efforts.iter().map(|effort| effort.as_str()).collect();
    html! {
        tr {
            th scope="row" {
                code { (name(id)) }
                @if model.slug != id {
                    small { "alias of " code { (name(&model.slug)) } }
                } @else if !model.display_name.eq_ignore_ascii_case(id) {
                    small { (name(&model.display_name)) }
                }
            }
            td.number { @if let Some(window) = model.context_window { (count(window)) } @else { "–" } }
            td {
                @if efforts.is_empty() { "–" } @else { (efforts.join(", ")) }
                small {
                    (text(model.input_modalities.join(", ")))
                    @if model.has_fast_tier { "; fast tier as " code.piece { "-fast" } }
                }
            }
        }
    }
}
