//! The states of listed requests, and the bounds of the list.

use std::time::UNIX_EPOCH;

use http::HeaderValue;

use super::*;

fn request<'r>(id: &'r str, headers: &'r HeaderMap) -> NewRequest<'r> {
    NewRequest { id, dialect: "chat", key: Some("desk"), headers, at: UNIX_EPOCH, began: Instant::now() }
}

/// A request that has arrived, for tests that display one.
pub(in crate::server) fn status() -> RequestStatus {
    let requests = ActiveRequests::default();
    requests.add(&request("req_1", &HeaderMap::new()));
    requests.list().remove(0)
}

const COMPLETED: RequestEnd<'_> = RequestEnd { outcome: "completed", error: None, tokens: None };

#[tokio::test(start_paused = true)]
async fn a_request_is_updated_from_arrival_to_end() {
    let requests = ActiveRequests::default();
    let headers = [(USER_AGENT, HeaderValue::from_static("curl/8"))].into_iter().collect();
    let id = requests.add(&request("req_1", &headers));
    let seen = || requests.list().remove(0);
    let status = seen();
    assert_eq!(
        (status.state, status.client.as_deref(), status.key.as_deref()),
        (Stage::Queued, Some("curl"), Some("desk"))
    );
    requests.mark_waiting(id);
    requests.set_model(id, &"m".repeat(1000));
    let status = seen();
    assert_eq!((status.state, status.model.map(|model| model.len())), (Stage::Waiting, Some(100)));
    tokio::time::advance(Duration::from_millis(1500)).await;
    requests.mark_answering(id, Duration::from_millis(1200));
    let status = seen();
    assert_eq!((status.state, status.first_content_ms, status.duration_ms), (Stage::Answering, Some(1200), 1500));
    tokio::time::advance(Duration::from_millis(500)).await;
    requests.finish(id, &RequestEnd { error: Some("client_left"), ..COMPLETED });
    tokio::time::advance(Duration::from_secs(60)).await;
    let status = seen();
    assert_eq!((status.state, status.duration_ms, status.error), (Stage::Ended, 2000, Some("client_left")));
    requests.mark_answering(id, Duration::ZERO);
    assert_eq!(seen().state, Stage::Ended, "an ended request isn't updated");
}

#[tokio::test(start_paused = true)]
async fn the_list_is_bounded() {
    let requests = ActiveRequests::default();
    let headers = HeaderMap::new();
    let ids: Vec<_> = (0..2 * MAX_ACTIVE).map(|_| requests.add(&request("req", &headers))).collect();
    assert_eq!(requests.list().len(), MAX_ACTIVE);
    for id in ids {
        requests.finish(id, &COMPLETED);
    }
    assert_eq!(requests.list().len(), MAX_ENDED);
    let last = requests.add(&request("req_last", &headers));
    let ids: Vec<_> = requests.list().into_iter().map(|status| status.id).collect();
    assert_eq!((ids[0].as_str(), ids.len()), ("req_last", MAX_ENDED + 1), "requests under way come first");
    requests.finish(last, &COMPLETED);
    assert_eq!(requests.list()[0].id, "req_last");
}
