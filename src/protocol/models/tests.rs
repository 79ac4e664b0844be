use std::sync::Arc;

use super::{Catalogue, Effort, Models, RequestTraits, ResolvedModel, Route, RouteCondition, Rules};

fn models(aliases: &[(&str, &str)], default_model: Option<&str>) -> Models {
    let catalogue = br#"{"models":[
        {"slug":"gpt-6-sol","priority":2,"supported_reasoning_levels":["low","medium","xhigh"]},
        {"slug":"gpt-6-luna","priority":3},
        {"slug":"gpt-5-codex-max","priority":4},
        {"slug":"hidden","priority":1,"visibility":"hide"}]}"#;
    let aliases = aliases.iter().map(|(name, target)| ((*name).to_owned(), (*target).to_owned())).collect();
    Models {
        catalogue: Arc::new(Catalogue::parse(catalogue).unwrap()),
        rules: Arc::new(Rules { aliases, routes: Vec::new(), default_model: default_model.map(str::to_owned) }),
    }
}

fn resolved(slug: &str, effort: Option<Effort>, is_fast: bool) -> ResolvedModel {
    ResolvedModel { slug: slug.to_owned(), effort, is_effort_routed: false, is_fast }
}

#[test]
fn suffixes_and_prefixes_are_removed() {
    let models = models(&[], None);
    for (name, expected) in [
        ("gpt-6-sol", resolved("gpt-6-sol", None, false)),
        ("gpt-6-sol-high", resolved("gpt-6-sol", Some(Effort::High), false)),
        ("gpt-6-sol(high)", resolved("gpt-6-sol", Some(Effort::High), false)),
        ("gpt-6-sol (ultra)", resolved("gpt-6-sol", Some(Effort::Xhigh), false)),
        ("gpt-6-sol-fast", resolved("gpt-6-sol", None, true)),
        ("gpt-6-sol-low-fast", resolved("gpt-6-sol", Some(Effort::Low), true)),
        ("gpt-6-sol-fast-low", resolved("gpt-6-sol", Some(Effort::Low), true)),
        ("openai/gpt-6-sol(max)-fast", resolved("gpt-6-sol", Some(Effort::Max), true)),
        ("codex/gpt-6-sol-fast(none)", resolved("gpt-6-sol", Some(Effort::None), true)),
        (" gpt-6-sol ", resolved("gpt-6-sol", None, false)),
    ] {
        assert_eq!(models.resolve(name), expected, "{name}");
    }
}

#[test]
fn a_slug_that_ends_like_a_suffix_wins_unstripped() {
    let models = models(&[], None);
    assert_eq!(models.resolve("gpt-5-codex-max"), resolved("gpt-5-codex-max", None, false));
    assert_eq!(models.resolve("gpt-5-codex-max-low"), resolved("gpt-5-codex-max", Some(Effort::Low), false));
}

#[test]
fn unknown_names_pass_unchanged() {
    let models = models(&[], None);
    for name in ["gpt-9", "o7", "gpt-9(loud)", "-high", "(high)", "openai/", "-", "a/b", "gpt-9-", ")("] {
        assert_eq!(models.resolve(name), resolved(name, None, false), "{name}");
    }
    assert_eq!(models.resolve("gpt-9-x-high-low"), resolved("gpt-9-x-high", Some(Effort::Low), false));
}

#[test]
fn default_claude_and_gemini_names_resolve_to_the_default_model() {
    let first = models(&[], None);
    assert_eq!(first.resolve("default"), resolved("gpt-6-sol", None, false));
    assert_eq!(first.resolve("claude-opus-4-5-high"), resolved("gpt-6-sol", Some(Effort::High), false));
    assert_eq!(first.resolve("gemini-9-pro-low"), resolved("gpt-6-sol", Some(Effort::Low), false));
    let set = models(&[("claude-haiku", "gpt-6-luna-low")], Some("gpt-9-fast"));
    assert_eq!(set.resolve("gemini-9-flash"), resolved("gpt-9", None, true));
    assert_eq!(set.resolve("claude-sonnet"), resolved("gpt-9", None, true));
    assert_eq!(set.resolve("claude-haiku"), resolved("gpt-6-luna", Some(Effort::Low), false));
    assert_eq!(Models::default().resolve("claude-sonnet"), resolved("claude-sonnet", None, false));
}

#[test]
fn suffixes_of_the_client_win_over_those_of_an_alias() {
    let models = models(&[("mini", "gpt-6-luna-low-fast"), ("small", "mini")], None);
    assert_eq!(models.resolve("mini"), resolved("gpt-6-luna", Some(Effort::Low), true));
    assert_eq!(models.resolve("small(high)"), resolved("gpt-6-luna", Some(Effort::High), true));
    assert_eq!(models.resolve("openai/mini"), resolved("gpt-6-luna", Some(Effort::Low), true));
}

#[test]
fn circular_aliases_terminate() {
    let models =
        models(&[("a", "b-high"), ("b", "a-fast"), ("gpt-6-sol", "gpt-6-sol-low"), ("self", "self")], Some("default"));
    assert_eq!(models.resolve("a"), resolved("a", Some(Effort::High), true));
    assert_eq!(models.resolve("gpt-6-sol"), resolved("gpt-6-sol", Some(Effort::Low), false));
    assert_eq!(models.resolve("self"), resolved("self", None, false));
    assert_eq!(models.resolve("default"), resolved("default", None, false));
    assert_eq!(models.resolve("claude-x"), resolved("default", None, false));
}

fn routed(aliases: &[(&str, &str)], routes: &[(&str, &str, Option<Effort>, RouteCondition)]) -> Models {
    let mut models = models(aliases, None);
    let route = |(pattern, model, effort, when): &(&str, &str, Option<Effort>, RouteCondition)| Route {
        pattern: (*pattern).to_owned(),
        model: (*model).to_owned(),
        effort: *effort,
        when: *when,
    };
    Arc::make_mut(&mut models.rules).routes = routes.iter().map(route).collect();
    models
}

#[test]
fn only_the_first_matching_route_is_used() {
    let models = routed(
        &[("claude-named", "gpt-6-luna")],
        &[
            ("claude-*", "gpt-6-luna(low)", None, RouteCondition::WebSearch),
            ("claude-*", "gpt-9", Some(Effort::High), RouteCondition::Think),
            ("claude-*haiku*", "claude-haiku", None, RouteCondition::Always),
            ("gpt-*", "gpt-8", None, RouteCondition::Always),
        ],
    );
    let (plain, thinks) = (RequestTraits::default(), RequestTraits { thinks: true, searches: false });
    let both = RequestTraits { thinks: true, searches: true };
    let with_routed_effort =
        |slug| ResolvedModel { is_effort_routed: true, ..resolved(slug, Some(Effort::High), false) };
    assert_eq!(models.resolve_for("claude-opus-low", both), resolved("gpt-6-luna", Some(Effort::Low), false));
    assert_eq!(models.resolve_for("claude-opus-low", thinks), with_routed_effort("gpt-9"));
    assert_eq!(
        models.resolve_for("claude-haiku-4", plain),
        resolved("gpt-6-sol", None, false),
        "the route leads to the default model"
    );
    assert_eq!(models.resolve_for("claude-named", thinks).slug, "gpt-6-luna", "aliases are not routed");
    assert_eq!(models.resolve("gpt-5-codex-max").slug, "gpt-8", "a model of the catalogue can be routed too");
    assert_eq!(with_routed_effort("m").effort(Some(Effort::Low)), Some(Effort::High));
    assert_eq!(resolved("m", Some(Effort::High), false).effort(Some(Effort::Low)), Some(Effort::Low));
}

#[test]
fn small_claude_models_resolve_to_the_small_model() {
    let catalogue = br#"{"models":[{"slug":"sol","priority":1},{"slug":"sol-mini","priority":3},
        {"slug":"x-mini","priority":2,"visibility":"hide"}]}"#;
    let mut models = Models { catalogue: Arc::new(Catalogue::parse(catalogue).unwrap()), ..Models::default() };
    assert_eq!(models.resolve("claude-3-5-haiku-latest").slug, "sol-mini");
    assert_eq!(models.resolve("claude-opus-4-8").slug, "sol");
    assert_eq!(models.resolve("haiku").slug, "haiku", "other names are unchanged");
    Arc::make_mut(&mut models.rules).default_model = Some("gpt-9".to_owned());
    assert_eq!(models.resolve("claude-haiku").slug, "sol-mini");
    assert_eq!(models.resolve("claude-opus").slug, "gpt-9");
}

#[test]
fn an_effort_is_clamped_to_the_nearest_lower_on_ties() {
    let models = models(&[], None);
    for (wanted, supported) in [
        (Effort::None, Effort::Low),
        (Effort::Minimal, Effort::Low),
        (Effort::Medium, Effort::Medium),
        (Effort::High, Effort::Medium),
        (Effort::Max, Effort::Xhigh),
    ] {
        assert_eq!(models.clamp("gpt-6-sol", wanted), supported, "{wanted:?}");
    }
    assert_eq!(models.clamp("gpt-6-luna", Effort::Max), Effort::Max, "the catalogue lists no efforts");
    assert_eq!(models.clamp("gpt-9", Effort::None), Effort::None, "not in the catalogue");
}

#[test]
fn typos_get_a_suggestion() {
    let models = models(&[], None);
    assert_eq!(models.suggest("gpt6-sol").as_deref(), Some("gpt-6-sol"));
    assert_eq!(models.suggest("GPT-6-Lunar").as_deref(), Some("gpt-6-luna"));
    for name in ["codex-proxy/gpt-6-sol", "models/gpt-6-sol", "a/b/GPT-6-sol"] {
        assert_eq!(models.suggest(name).as_deref(), Some("gpt-6-sol"), "{name}");
    }
    assert_eq!(models.suggest("gpt-6-sol"), None, "it exists");
    assert_eq!(models.suggest("llama"), None, "no similar model");
    assert_eq!(Models::default().suggest("gpt-6-sol"), None, "nothing is known");
}
