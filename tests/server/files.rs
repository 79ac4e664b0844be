//! Uploaded files: their endpoints, their owners, and requests that refer to them.

use serde_json::{Value, json};

use crate::proxy::TestProxy;
use crate::uploads::{Part, form, text};
use crate::wire::{Answer, Ask};
use crate::{Bench, chat, with};

const KEYS: &str = "[[keys]]\nname = 'ann'\nkey = 'sk-ann'\n[[keys]]\nname = 'bob'\nkey = 'sk-bob'\n";
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\x00";

pub(crate) fn by(key: &str, ask: Ask) -> Ask {
    ask.header("authorization", &format!("Bearer {key}"))
}

/// An upload.
pub(crate) fn upload(purpose: &str, name: &str, content: &[u8]) -> Ask {
    let file: Part<'_> = ("file", Some(name), "application/octet-stream", content);
    form("/v1/files", &[text("purpose", purpose), file])
}

/// Uploads a file and returns its id.
pub(crate) async fn uploaded(proxy: &TestProxy, purpose: &str, name: &str, content: &[u8]) -> String {
    let answer = upload(purpose, name, content).send(proxy).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["id"].as_str().unwrap().to_owned()
}

/// The content of a file.
pub(crate) async fn content(proxy: &TestProxy, id: &str) -> Answer {
    Ask::get(&format!("/v1/files/{id}/content")).send(proxy).await
}

#[tokio::test]
async fn a_file_is_uploaded_listed_read_and_deleted() {
    let bench = Bench::new().await;
    let content_bytes: Vec<u8> = (0..=255).cycle().take(3 * 1024 * 1024).collect();
    let created = upload("user_data", "a \"b\".txt", &content_bytes).send(&bench.proxy).await.json();
    let id = created["id"].as_str().unwrap().to_owned();
    let at = created["created_at"].as_u64().unwrap();
    let expected = json!({
        "id": id, "object": "file", "bytes": content_bytes.len(), "created_at": at, "expires_at": at + 30 * 86400,
        "filename": "a \"b\".txt", "purpose": "user_data", "status": "processed", "status_details": null,
    });
    // A quotation mark ends the name of a file in a form; clients escape it.
    assert_eq!(with(created.clone(), "filename", expected["filename"].clone()), expected);
    let path = format!("/v1/files/{id}");
    assert_eq!(Ask::get(&path).send(&bench.proxy).await.json(), created);
    let listed = Ask::get("/v1/files?purpose=user_data").send(&bench.proxy).await.json();
    assert_eq!((&listed["data"], &listed["has_more"]), (&json!([created]), &json!(false)));
    assert_eq!((&listed["object"], &listed["first_id"], &listed["last_id"]), (&json!("list"), &json!(id), &json!(id)));
    assert_eq!(Ask::get("/v1/files?purpose=batch").send(&bench.proxy).await.json()["data"], json!([]));
    let read = content(&bench.proxy, &id).await;
    assert_eq!((read.status, read.header("x-content-type-options")), (200, "nosniff"));
    assert!(read.body == content_bytes, "the content is unchanged");
    let deleted = Ask::new("DELETE", &path).send(&bench.proxy).await.json();
    assert_eq!(deleted, json!({"id": id, "object": "file", "deleted": true}));
    for gone in [Ask::get(&path), Ask::new("DELETE", &path), Ask::get(&format!("{path}/content"))] {
        let gone = gone.send(&bench.proxy).await;
        assert_eq!((gone.status, gone.error()["param"].as_str()), (404, Some("id")));
        assert!(gone.error()["message"].as_str().unwrap().contains(&id));
    }
}

#[tokio::test]
async fn a_web_page_can_not_upload_a_file() {
    let bench = Bench::with(|launch| launch.setting("allowed_origins", "https://chat.example")).await;
    let ask = upload("user_data", "a.txt", b"x");
    for (name, value, expected) in [
        ("origin", "https://evil.invalid", "foreign_origin"),
        ("origin", "null", "foreign_origin"),
        ("sec-fetch-site", "cross-site", "cross_site"),
        ("sec-fetch-site", "same-site", "cross_site"),
    ] {
        let answer = ask.clone().header(name, value).send(&bench.proxy).await;
        assert_eq!((answer.status, answer.error()["code"].as_str()), (403, Some(expected)), "{name}: {value}");
    }
    assert_eq!(Ask::get("/v1/files").send(&bench.proxy).await.json()["data"], json!([]));
    let allowed = ask.header("origin", "https://chat.example").header("sec-fetch-site", "cross-site");
    assert_eq!(allowed.send(&bench.proxy).await.status, 200);
}

#[tokio::test]
async fn lists_have_pages() {
    let bench = Bench::new().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(uploaded(&bench.proxy, "user_data", "a.txt", b"x").await);
    }
    let page = async |query: &str| Ask::get(&format!("/v1/files?{query}")).send(&bench.proxy).await;
    let ids_of =
        |page: &Value| page["data"].as_array().unwrap().iter().map(|file| file["id"].clone()).collect::<Vec<_>>();
    let first = page("limit=2").await.json();
    assert_eq!((ids_of(&first), &first["has_more"]), (vec![json!(ids[2]), json!(ids[1])], &json!(true)));
    let rest = page(&format!("limit=2&after={}", ids[1])).await.json();
    assert_eq!((ids_of(&rest), &rest["has_more"]), (vec![json!(ids[0])], &json!(false)));
    assert_eq!(ids_of(&page("order=asc").await.json())[0], json!(ids[0]));
    for (query, param) in [("limit=0", "limit"), ("limit=x", "limit"), ("order=up", "order"), ("after=file-x", "after")]
    {
        assert_eq!(page(query).await.error()["param"], param, "{query}");
    }
}

#[tokio::test]
async fn a_key_sees_only_its_own_files() {
    let bench = Bench::answering(|launch| launch.file("config.toml", KEYS)).await;
    let created = by("sk-ann", upload("vision", "a.png", PNG)).send(&bench.proxy).await.json();
    let id = created["id"].as_str().unwrap();
    let path = format!("/v1/files/{id}");
    for ask in [Ask::get(&path), Ask::get(&format!("{path}/content")), Ask::new("DELETE", &path)] {
        assert_eq!(by("sk-bob", ask).send(&bench.proxy).await.status, 404);
    }
    assert_eq!(by("sk-bob", Ask::get("/v1/files")).send(&bench.proxy).await.json()["data"], json!([]));
    let request =
        json!({"model": "gpt-5.5", "input": [{"role": "user", "content": [{"type": "input_image", "file_id": id}]}]});
    let ask = Ask::post("/v1/responses", &request);
    let refused = by("sk-bob", ask.clone()).send(&bench.proxy).await;
    assert_eq!((refused.status, refused.error()["param"].as_str()), (404, Some("input[0].content[0].file_id")));
    assert_eq!(bench.request_count(), 0);
    assert_eq!(by("sk-ann", ask).send(&bench.proxy).await.status, 200);
}

/// The content of the first message that the backend got.
fn sent_content(bench: &Bench) -> Value {
    bench.upstream.requests("/responses").last().unwrap().json()["input"][0]["content"].clone()
}

#[tokio::test]
async fn files_that_a_request_names_are_sent_as_data_urls() {
    let bench = Bench::answering(|launch| launch).await;
    let image = uploaded(&bench.proxy, "vision", "a.png", PNG).await;
    let document = uploaded(&bench.proxy, "user_data", "b.csv", b"a,b").await;
    let (image_url, file_data) = ("data:image/png;base64,iVBORw0KGgoA", "data:text/csv;base64,YSxi");
    let parts = json!([
        {"type": "input_image", "file_id": image, "detail": "low"},
        {"type": "input_file", "file_id": document},
    ]);
    let request = json!({"model": "gpt-5.5", "input": [{"role": "user", "content": parts}]});
    assert_eq!(Ask::post("/v1/responses", &request).send(&bench.proxy).await.status, 200);
    assert_eq!(sent_content(&bench)[0], json!({"type": "input_image", "image_url": image_url, "detail": "low"}));
    assert_eq!(sent_content(&bench)[1], json!({"type": "input_file", "file_data": file_data, "filename": "b.csv"}));
    let counted = Ask::post("/v1/responses/input_tokens", &request).send(&bench.proxy).await;
    assert_eq!(counted.status, 200, "{}", counted.text());

    let content = json!([{"type": "text", "text": "hi"}, {"type": "file", "file": {"file_id": document}}]);
    let request = with(chat(), "messages", json!([{"role": "user", "content": content}]));
    assert_eq!(Ask::chat(&request).send(&bench.proxy).await.status, 200);
    assert_eq!(sent_content(&bench)[1], json!({"type": "input_file", "file_data": file_data, "filename": "b.csv"}));

    let content = json!([{"type": "file", "file": {"file_id": "file-none"}}]);
    let request = with(chat(), "messages", json!([{"role": "user", "content": content}]));
    let refused = Ask::chat(&request).send(&bench.proxy).await;
    let param = "messages[0].content[0].file.file_id";
    assert_eq!((refused.status, refused.error()["param"].as_str()), (404, Some(param)));
    let parts = json!([{"type": "input_image", "file_id": document}]);
    let request = json!({"model": "gpt-5.5", "input": [{"role": "user", "content": parts}]});
    let refused = Ask::post("/v1/responses", &request).send(&bench.proxy).await;
    assert_eq!((refused.status, refused.error()["code"].as_str()), (400, Some("invalid_value")));
}

#[tokio::test]
async fn files_count_against_the_largest_body() {
    let bench = Bench::answering(|launch| launch.setting("limits.body", "10KiB")).await;
    let id = uploaded(&bench.proxy, "user_data", "a.txt", &[b'x'; 8 * 1024]).await;
    let parts = json!([{"type": "input_file", "file_id": id}]);
    let request = json!({"model": "gpt-5.5", "input": [{"role": "user", "content": parts}]});
    let refused = Ask::post("/v1/responses", &request).send(&bench.proxy).await;
    assert_eq!((refused.status, refused.error()["param"].as_str()), (413, Some("input[0].content[0].file_id")));
}

#[tokio::test]
async fn invalid_uploads_are_refused_and_leave_nothing() {
    let bench = Bench::with(|launch| launch.setting("files.max_bytes", "100KiB")).await;
    let long = vec![b'x'; 101 * 1024];
    let file = ("file", Some("a.txt"), "text/plain", b"x".as_slice());
    for (ask, status, param) in [
        (upload("fine-tune", "a.jsonl", b"{}"), 400, json!("purpose")),
        (upload("batch", "a.txt", b"{}"), 400, json!("file")),
        (form("/v1/files", &[file]), 400, json!("purpose")),
        (form("/v1/files", &[text("purpose", "user_data")]), 400, json!("file")),
        (form("/v1/files", &[file, file, text("purpose", "user_data")]), 400, json!("file")),
        (upload("user_data", "a.txt", &long), 413, json!("file")),
        (Ask::post("/v1/files", &json!({"purpose": "user_data"})), 415, Value::Null),
        (upload("user_data", "a.txt", b"x").header("content-encoding", "gzip"), 415, Value::Null),
    ] {
        let answer = ask.send(&bench.proxy).await;
        assert_eq!((answer.status, &answer.error()["param"]), (status, &param), "{}", answer.text());
    }
    assert_eq!(Ask::get("/v1/files").send(&bench.proxy).await.json()["data"], json!([]));
    // The file may come before the fields, and unknown fields are reported.
    let expiry = [text("expires_after[anchor]", "created_at"), text("expires_after[seconds]", "3600")];
    let ask = form("/v1/files", &[file, text("purpose", "user_data"), expiry[0], expiry[1], text("color", "red")]);
    let answer = ask.chunked().send(&bench.proxy).await;
    assert_eq!((answer.status, answer.header("x-proxy-warnings")), (200, "ignored:color"));
    let created = answer.json();
    assert_eq!(created["expires_at"].as_u64().unwrap() - created["created_at"].as_u64().unwrap(), 3600);
}

#[tokio::test]
async fn files_survive_a_restart_and_an_upload_that_was_cut_leaves_nothing() {
    let mut kept = None;
    let mut bench = Bench::with(|launch| {
        kept = Some(launch.clone());
        launch
    })
    .await;
    let launch = kept.unwrap();
    let id = uploaded(&bench.proxy, "user_data", "a.txt", b"content").await;
    let cut = upload("user_data", "b.txt", &vec![b'x'; 3 * 1024 * 1024]);
    drop(cut.begin(&bench.proxy, 2 * 1024 * 1024).await);
    bench.proxy.signal("KILL");
    bench.proxy.ended().await;
    let later = launch.start();
    assert_eq!(content(&later, &id).await.body, b"content");
    assert_eq!(Ask::get("/v1/files").send(&later).await.json()["data"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn items_of_a_conversation_keep_the_content_of_a_file_that_is_deleted() {
    let bench = Bench::answering(|launch| launch).await;
    let id = uploaded(&bench.proxy, "user_data", "main.py", b"print()").await;
    let items = |id: &str| json!([{"role": "user", "content": [{"type": "input_file", "file_id": id}]}]);
    let unknown = Ask::post("/v1/conversations", &json!({"items": items("file-none")})).send(&bench.proxy).await;
    assert_eq!((unknown.status, unknown.error()["param"].as_str()), (404, Some("items[0].content[0].file_id")));
    let created = Ask::post("/v1/conversations", &json!({"items": items(&id)})).send(&bench.proxy).await.json();
    let conversation = created["id"].as_str().unwrap_or_else(|| panic!("{created}"));
    let path = format!("/v1/conversations/{conversation}/items");
    assert_eq!(Ask::post(&path, &json!({"items": items(&id)})).send(&bench.proxy).await.status, 200);
    Ask::new("DELETE", &format!("/v1/files/{id}")).send(&bench.proxy).await;
    let request = json!({"model": "gpt-5.5", "conversation": conversation, "input": "What does it print?"});
    let answer = Ask::post("/v1/responses", &request).send(&bench.proxy).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let sent = bench.upstream.requests("/responses").last().unwrap().json();
    for index in 0..2 {
        let part = &sent["input"][index]["content"][0];
        assert_eq!(part["file_data"], "data:text/plain;base64,cHJpbnQoKQ==", "{sent}");
        assert_eq!((&part["filename"], &part["file_id"]), (&json!("main.py"), &Value::Null));
    }
}

#[tokio::test]
async fn a_screenshot_and_the_mask_of_an_image_can_be_files() {
    let bench = Bench::answering(|launch| launch).await;
    let id = uploaded(&bench.proxy, "vision", "a.png", PNG).await;
    let request = json!({
        "model": "gpt-5.5",
        "input": [
            {"type": "computer_call", "id": "cu_1", "call_id": "c1", "action": {"type": "screenshot"}, "status": "completed"},
            {"type": "computer_call_output", "call_id": "c1", "output": {"type": "computer_screenshot", "file_id": id}},
        ],
        "tools": [{"type": "image_generation", "input_image_mask": {"file_id": id}}],
    });
    let answer = Ask::post("/v1/responses", &request).send(&bench.proxy).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let sent = bench.upstream.requests("/responses").last().unwrap().json().to_string();
    assert!(sent.matches("data:image/png;base64,").count() == 2 && !sent.contains("file_id"), "{sent}");
}

#[tokio::test]
async fn a_body_with_files_is_checked_before_it_is_parsed() {
    let bench = Bench::answering(|launch| launch).await;
    let deep = format!("{{\"input\":{}\"file_id\"{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let answer = Ask::raw("/v1/responses", deep.as_str()).send(&bench.proxy).await;
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert_eq!(bench.request_count(), 0);
}
