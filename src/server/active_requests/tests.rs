//! What is known of requests while they pass, and how much of it at most.

use std::time::UNIX_EPOCH;

use http::HeaderValue;

use super::*;

fn caller<'r>(id: &'r str, headers: &'r HeaderMap) -> NewRequest<'r> {
    NewRequest { id, dialect: "chat", key: Some("desk"), headers, at: UNIX_EPOCH, began: Instant::now() }
}

/// A request that has come, for tests of those who show it.
pub(in crate::server) fn visit() -> RequestStatus {
    let active_requests = ActiveRequests::default();
    active_requests.came(&caller("req_1", &HeaderMap::new()));
    active_requests.list().remove(0)
}

const COMPLETED: RequestEnd<'_> = RequestEnd { outcome: "completed", error: None, tokens: None };

#[tokio::test(start_paused = true)]
async fn a_request_is_followed_from_its_coming_to_its_end() {
    let active_requests = ActiveRequests::default();
    let headers = [(USER_AGENT, HeaderValue::from_static("curl/8"))].into_iter().collect();
    let ticket = active_requests.came(&caller("req_1", &headers));
    let seen = || active_requests.list().remove(0);
    let visit = seen();
    assert_eq!(
        (visit.state, visit.client.as_deref(), visit.key.as_deref()),
        (Stage::Queued, Some("curl"), Some("desk"))
    );
    active_requests.entered(ticket);
    active_requests.planned(ticket, &"m".repeat(1000));
    let visit = seen();
    assert_eq!((visit.state, visit.model.map(|model| model.len())), (Stage::Waiting, Some(100)));
    tokio::time::advance(Duration::from_millis(1500)).await;
    active_requests.answers(ticket, Duration::from_millis(1200));
    let visit = seen();
    assert_eq!((visit.state, visit.first_content_ms, visit.duration_ms), (Stage::Answering, Some(1200), 1500));
    tokio::time::advance(Duration::from_millis(500)).await;
    active_requests.ended(ticket, &RequestEnd { error: Some("client_left"), ..COMPLETED });
    tokio::time::advance(Duration::from_secs(60)).await;
    let visit = seen();
    assert_eq!((visit.state, visit.duration_ms, visit.error), (Stage::Ended, 2000, Some("client_left")));
    active_requests.answers(ticket, Duration::ZERO);
    assert_eq!(seen().state, Stage::Ended, "what is over stays so");
}

#[tokio::test(start_paused = true)]
async fn a_crowd_takes_no_more_room_than_there_is() {
    let active_requests = ActiveRequests::default();
    let headers = HeaderMap::new();
    let tickets: Vec<_> = (0..2 * MAX_ACTIVE).map(|_| active_requests.came(&caller("req", &headers))).collect();
    assert_eq!(active_requests.list().len(), MAX_ACTIVE);
    for ticket in tickets {
        active_requests.ended(ticket, &COMPLETED);
    }
    assert_eq!(active_requests.list().len(), MAX_ENDED);
    let last = active_requests.came(&caller("req_last", &headers));
    let ids: Vec<_> = active_requests.list().into_iter().map(|visit| visit.id).collect();
    assert_eq!((ids[0].as_str(), ids.len()), ("req_last", MAX_ENDED + 1), "who is under way comes first");
    active_requests.ended(last, &COMPLETED);
    assert_eq!(active_requests.list()[0].id, "req_last");
}
