//! Calls of the tools with which Codex clients search the web and generate images.
//!
//! Codex clients offer these tools as functions in namespaces. In the lite form, the proxy offers the same functions
//! for other clients. If the model calls tools in scripts, the description of the client's script tool declares them.

use serde_json::{Value, json};

use super::output::{Output, Payload, quote};
use super::prompt::{ClientTool, Prompt};

/// Maximum number of images of the conversation that a client accepts for an edit.
const MAX_REFERENCES: usize = 5;
/// The tool of Codex clients that runs a script.
const SCRIPT_TOOL: &str = "exec";
/// The first line of a script. It sets how long the client waits for the result: long enough for an image.
const SCRIPT_PRAGMA: &str = "// @exec: {\"yield_time_ms\": 120000}";

/// A task that a client runs for the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    Search,
    GenerateImage,
}

/// Returns whether a tool runs one of the tasks.
pub(super) fn is_task_tool(tool: &ClientTool<'_>) -> bool {
    [Task::Search, Task::GenerateImage].into_iter().any(|task| task.is(tool))
}

/// Returns the calls for a request that asks for a search or an image, if the client offers the tools for that.
pub(super) fn calls(prompt: &Prompt<'_>) -> Vec<Output> {
    if !prompt.returned.is_empty() {
        return Vec::new();
    }
    let tasks = [(Task::Search, prompt.asks_to_search()), (Task::GenerateImage, prompt.asks_for_image())];
    let asked: Vec<Task> = tasks.into_iter().filter(|(_, is_asked)| *is_asked).map(|(task, _)| task).collect();
    let mut calls: Vec<Output> = asked.iter().filter_map(|task| direct_call(*task, prompt)).collect();
    if calls.is_empty() {
        calls.extend(script_call(&asked, prompt));
    }
    calls
}

fn direct_call(task: Task, prompt: &Prompt<'_>) -> Option<Output> {
    let (namespace, name) = task.tool();
    prompt.tools.iter().find(|tool| task.is(tool))?;
    let payload = Payload::Arguments(task.arguments(prompt).to_string());
    Some(Output::Call { namespace: Some(namespace.to_owned()), name: name.to_owned(), payload })
}

/// Returns the call of one script for all tasks whose functions the script tool declares.
fn script_call(asked: &[Task], prompt: &Prompt<'_>) -> Option<Output> {
    let tool = prompt.tools.iter().find(|tool| tool.name == SCRIPT_TOOL && tool.schema.is_none())?;
    let lines: Vec<String> = asked.iter().filter_map(|task| task.statement(tool, prompt)).collect();
    if lines.is_empty() {
        return None;
    }
    let script = format!("{SCRIPT_PRAGMA}\n{}", lines.join("\n"));
    let namespace = tool.namespace.map(str::to_owned);
    Some(Output::Call { namespace, name: tool.name.to_owned(), payload: Payload::Input(script) })
}

impl Task {
    /// The namespace and the name of the tool.
    fn tool(self) -> (&'static str, &'static str) {
        match self {
            Self::Search => ("web", "run"),
            Self::GenerateImage => ("image_gen", "imagegen"),
        }
    }

    fn is(self, tool: &ClientTool<'_>) -> bool {
        let (namespace, name) = self.tool();
        tool.namespace == Some(namespace) && tool.name == name
    }

    fn arguments(self, prompt: &Prompt<'_>) -> Value {
        let text = quote(prompt.request_text);
        match self {
            Self::Search => json!({ "search_query": [{ "q": text }] }),
            Self::GenerateImage if prompt.images > 0 => {
                json!({ "prompt": text, "num_last_images_to_include": prompt.images.min(MAX_REFERENCES) })
            }
            Self::GenerateImage => json!({ "prompt": text }),
        }
    }

    /// Returns the statement that calls the tool in a script and adds the output to that of the script; `None` if the
    /// script tool doesn't declare the function.
    fn statement(self, tool: &ClientTool<'_>, prompt: &Prompt<'_>) -> Option<String> {
        let (namespace, name) = self.tool();
        let function = format!("{namespace}__{name}");
        if !tool.description.contains(&format!("{function}(")) {
            return None;
        }
        let show = match self {
            Self::Search => "text",
            Self::GenerateImage => "generatedImage",
        };
        Some(format!("{show}(await tools.{function}({}))", self.arguments(prompt)))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::output::{Output, Payload, outputs};
    use super::super::prompt::Prompt;

    fn answer(text: &str, tools: &Value, more: &Value) -> Vec<Output> {
        let message = json!({ "role": "user", "content": [{ "type": "input_text", "text": text }, more] });
        let body = json!({ "input": [message], "tools": tools, "reasoning": { "effort": "none" } });
        outputs(&Prompt::read(body.as_object().unwrap()), None)
    }

    fn direct() -> Value {
        let function = |name: &str| json!([{ "type": "function", "name": name, "parameters": { "type": "object" } }]);
        json!([
            { "type": "function", "name": "view_image", "parameters": { "type": "object" } },
            { "type": "namespace", "name": "web", "tools": function("run") },
            { "type": "namespace", "name": "image_gen", "tools": function("imagegen") },
        ])
    }

    fn scripted(declared: &str) -> Value {
        let exec = json!({ "type": "custom", "name": "exec", "description": declared });
        json!([{ "type": "namespace", "name": "functions", "tools": [exec] }])
    }

    #[test]
    fn requests_for_a_search_or_an_image_call_the_tools_that_the_client_offers() {
        let [Output::Call { namespace, name, payload }] = &answer("Search for Rust", &direct(), &Value::Null)[..]
        else {
            panic!("one call")
        };
        assert_eq!((namespace.as_deref(), name.as_str()), (Some("web"), "run"));
        assert_eq!(*payload, Payload::Arguments(r#"{"search_query":[{"q":"Search for Rust"}]}"#.to_owned()));
        let [Output::Call { name, payload, .. }] = &answer("Draw an image", &direct(), &Value::Null)[..] else {
            panic!("one call")
        };
        assert_eq!(name, "imagegen", "not view_image, though the request has the word");
        assert_eq!(*payload, Payload::Arguments(r#"{"prompt":"Draw an image"}"#.to_owned()));
    }

    #[test]
    fn an_attached_image_is_edited() {
        let image = json!({ "type": "input_image", "image_url": "data:image/png;base64,AA==" });
        let [Output::Call { payload: Payload::Arguments(arguments), .. }] =
            &answer("Draw a hat", &direct(), &image)[..]
        else {
            panic!("one call")
        };
        assert!(arguments.contains(r#""num_last_images_to_include":1"#), "{arguments}");
    }

    #[test]
    fn a_script_calls_only_declared_functions() {
        let script = |declared: &str| match &answer("Search the web, then draw it", &scripted(declared), &Value::Null)[..]
        {
            [Output::Call { payload: Payload::Input(script), .. }] => script.clone(),
            other => format!("{other:?}"),
        };
        let both = script("web__run(args: {}), image_gen__imagegen(args: {})");
        assert!(both.contains("text(await tools.web__run({\"search_query\":"), "{both}");
        assert!(both.contains("generatedImage(await tools.image_gen__imagegen({\"prompt\":"), "{both}");
        assert!(!script("web__run(args: {})").contains("imagegen"));
        assert!(script("Runs JavaScript").contains("Message"), "without the functions, it answers");
    }
}
