//! `/v1/files` and the paths below: stores, lists, reads and deletes the files of a client key.
//!
//! An upload goes to the disk as it arrives. Its fields may follow the file, so they are checked at its end.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use bytes::Bytes;
use futures_core::Stream;
use http::header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::request::Parts;
use http::{Extensions, HeaderValue};
use multer::Field;
use serde::Serialize;
use uuid::Uuid;

use super::api_flavor::{ApiFlavor, error_response, refuse, refuse_unread};
use super::form_stream::FormStream;
use super::handler::Limits;
use super::http_response::{json, with_warnings};
use super::multipart::{expected_body, is_multipart};
use super::query::list_query;
use super::request_log::RequestId;
use super::state::ServerState;
use super::{Services, body};
use crate::error::{ProxyError, Reason, Refusal};
use crate::history::{FileError, FileReader, FileRecord, FileStore, Listing, NewFile, ResponseOwner, Upload};
use crate::protocol::Warnings;
use crate::protocol::files::{DeletedFile, FileObject, MAX_FILE_NAME_BYTES, UploadFields};

/// Files in a list, unless the query has a `limit`.
const MAX_LISTED: usize = 10_000;

/// Handles uploads.
#[derive(Clone, Debug)]
pub(super) struct Uploads {
    files: FileStore,
    state: Arc<ServerState>,
    max_pause: Duration,
}

impl Uploads {
    pub(super) fn new(services: &Services, state: &Arc<ServerState>, limits: Limits) -> Self {
        Self { files: services.files.clone(), state: Arc::clone(state), max_pause: limits.body_read }
    }

    /// `POST /v1/files`.
    pub(super) async fn create(self, request: Request) -> Response {
        let flavor = ApiFlavor::of(&request);
        let (parts, mut body) = request.into_parts();
        match self.receive(&parts, &mut body).await {
            Ok((record, warnings)) => with_warnings(json(&object(record)), &warnings),
            Err(error) => {
                if !matches!(error, ProxyError::BodyTooSlow { .. }) {
                    body::discard(&parts.headers, body).await;
                }
                error_response(flavor, &error, &RequestId::of(&parts).0)
            }
        }
    }

    async fn receive(&self, parts: &Parts, body: &mut Body) -> Result<(FileRecord, Warnings), ProxyError> {
        if !is_multipart(&parts.headers) {
            return Err(ProxyError::UnsupportedMediaType { expected: expected_body(parts) });
        }
        let mut memory = self.state.memory.reserve();
        memory.set_buffered(Upload::MEMORY_BYTES).await?;
        let mut form = FormStream::new(&parts.headers, body, self.max_pause)?;
        let (mut fields, mut file) = (UploadFields::default(), None);
        while let Some(mut part) = form.next().await? {
            let name = part.name().map(str::to_owned).unwrap_or_default();
            if name != "file" {
                let text = form.text(&mut part).await?;
                fields.read(&name, &text);
            } else if file.is_some() {
                return Err(Refusal::invalid("file", "the form has more than one 'file'"));
            } else {
                file = Some(self.receive_file(&form, part).await?);
            }
        }
        let (filename, upload) = file.ok_or_else(|| Refusal::missing("file"))?;
        let options = fields.check(&filename)?;
        let is_clamped = options.lifetime.is_some_and(|lifetime| lifetime > self.files.lifetime());
        if is_clamped {
            fields.warnings.note("clamped:expires_after");
        }
        let file = NewFile { filename, purpose: options.purpose, lifetime: options.lifetime };
        let stored = upload.finish(&owner(&parts.extensions), file).await;
        Ok((stored.map_err(|error| storing_failed(&error))?, fields.warnings))
    }

    async fn receive_file<'b>(
        &self,
        form: &FormStream<'b>,
        mut part: Field<'b>,
    ) -> Result<(String, Upload), ProxyError> {
        let filename = part.file_name().unwrap_or("file").to_owned();
        if filename.len() > MAX_FILE_NAME_BYTES {
            let message = format!("the name of the file is longer than {MAX_FILE_NAME_BYTES} bytes");
            return Err(Refusal::invalid("file", message));
        }
        let mut upload = self.files.upload(fresh_id()).await.map_err(|error| storing_failed(&error))?;
        while let Some(chunk) = form.chunk(&mut part).await? {
            upload.write(&chunk).await.map_err(|error| storing_failed(&error))?;
        }
        Ok((filename, upload))
    }
}

#[derive(Serialize)]
struct List<T> {
    object: &'static str,
    data: Vec<T>,
    first_id: Option<String>,
    last_id: Option<String>,
    has_more: bool,
}

/// `GET /v1/files`.
pub(super) async fn list(State(services): State<Arc<Services>>, request: Request) -> Response {
    let query = match list_query(&request, MAX_LISTED, MAX_LISTED) {
        Ok(query) => query,
        Err(error) => return refuse(&error, &request),
    };
    let after = query.after.clone();
    match services.files.list(&owner(request.extensions()), query).await {
        Ok(listing) => page(listing, object, |file| &file.id),
        Err(error) => refuse(&failed(&error, "File", &after.unwrap_or_default(), "after"), &request),
    }
}

/// A page of a list, with the objects of its records.
pub(super) fn page<R, T: Serialize>(
    listing: Listing<R>,
    object: impl Fn(R) -> T,
    id: impl Fn(&T) -> &String,
) -> Response {
    let Listing { records, has_more } = listing;
    let data: Vec<T> = records.into_iter().map(object).collect();
    let id_of = |item: Option<&T>| item.map(|item| id(item).clone());
    let (first_id, last_id) = (id_of(data.first()), id_of(data.last()));
    json(&List { object: "list", data, first_id, last_id, has_more })
}

/// `GET /v1/files/{id}`.
pub(super) async fn retrieve(
    State(services): State<Arc<Services>>,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    match services.files.find(&owner(request.extensions()), &id).await {
        Ok(record) => json(&object(record)),
        Err(error) => refuse(&failed(&error, "File", &id, "id"), &request),
    }
}

/// `GET /v1/files/{id}/content`.
pub(super) async fn content(
    State(services): State<Arc<Services>>,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    match services.files.open(&owner(request.extensions()), &id).await {
        Ok((record, reader)) => download(&record, reader),
        Err(error) => refuse(&failed(&error, "File", &id, "id"), &request),
    }
}

/// `DELETE /v1/files/{id}`.
pub(super) async fn delete(
    State(services): State<Arc<Services>>,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    match services.files.remove(&owner(request.extensions()), &id).await {
        Ok(()) => json(&DeletedFile { id: &id, object: "file", deleted: true }),
        Err(error) => refuse_unread(&failed(&error, "File", &id, "id"), request).await,
    }
}

/// A response with the content of a file, which is read as the client takes it.
fn download(record: &FileRecord, reader: FileReader) -> Response {
    let mut response = Response::new(Body::from_stream(parts_of(reader)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(record.bytes));
    // A browser must not show the content as a page of this origin.
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let is_plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ' ');
    let name: String = record.filename.chars().map(|c| if is_plain(&c) { c } else { '_' }).collect();
    if let Ok(disposition) = HeaderValue::try_from(format!("attachment; filename=\"{name}\"")) {
        headers.insert(CONTENT_DISPOSITION, disposition);
    }
    response
}

fn parts_of(reader: FileReader) -> impl Stream<Item = io::Result<Bytes>> {
    futures_util::stream::try_unfold(reader, |mut reader| async move {
        let part = reader.next().await?;
        Ok((!part.is_empty()).then_some((part, reader)))
    })
}

/// The id of a new file.
pub(super) fn fresh_id() -> String {
    format!("file-{}", Uuid::new_v4().simple())
}

/// The client key that a request is from.
pub(super) fn owner(extensions: &Extensions) -> ResponseOwner {
    extensions.get::<ResponseOwner>().cloned().unwrap_or_default()
}

fn object(record: FileRecord) -> FileObject {
    let FileRecord { id, filename, purpose, bytes, created_at, expires_at } = record;
    let (object, status) = ("file", "processed");
    FileObject { id, object, bytes, created_at, expires_at, filename, purpose, status, status_details: None }
}

/// The error for a file or batch with this id, which the parameter names.
pub(super) fn failed(error: &FileError, noun: &str, id: &str, param: &str) -> ProxyError {
    match error {
        FileError::NotFound => {
            let (message, param) = (format!("No such {noun} object: {id}"), Some(param.to_owned()));
            ProxyError::Refused(Refusal { reason: Reason::NotFound, message, param, code: None })
        }
        FileError::InUse(_) => Refusal::coded("file_in_use", param, error.to_string()),
        FileError::Ended(_) => Refusal::coded("batch_ended", param, error.to_string()),
        FileError::TooManyBatches(_) => Refusal::coded("too_many_batches", param, error.to_string()),
        FileError::Full { .. } | FileError::TooMany(_) | FileError::Storage(_) => storing_failed(error),
    }
}

fn storing_failed(error: &FileError) -> ProxyError {
    match error {
        FileError::Full { .. } => Refusal::too_large("file", error.to_string()),
        FileError::TooMany(_) => Refusal::coded("too_many_files", "file", error.to_string()),
        _ => {
            tracing::warn!(%error, "a file can't be stored or read");
            ProxyError::Internal
        }
    }
}
