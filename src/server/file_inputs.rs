//! Loads the uploaded files that a request refers to, and puts their contents into its body.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::request::Parts;

use super::files::{failed, owner};
use super::handler::Handler;
use crate::blocking::off_thread;
use crate::budget::Reservation;
use crate::depth_limit;
use crate::error::{ProxyError, Refusal};
use crate::protocol::files::inputs::{self, FileContent, FileInput};
use crate::protocol::{Dialect, FileIds};

impl<D: Dialect> Handler<D> {
    /// The body of a request, with the contents of the client's files instead of their ids. Reserves memory for them.
    ///
    /// # Errors
    /// If a file doesn't exist, isn't an image where one is needed, or makes the body longer than `limits.body`.
    pub(super) async fn with_files(
        &self,
        parts: &Parts,
        body: Bytes,
        memory: &mut Reservation,
    ) -> Result<Bytes, ProxyError> {
        if D::FILE_IDS == FileIds::Unknown || !inputs::may_have_any(&body) {
            return Ok(body);
        }
        memory.begin_work(&body).await?;
        let wanted = off_thread(body.len(), || depth_limit::check(&body).map(|()| inputs::find(&body)))?;
        let mut body = body;
        if !wanted.is_empty() {
            let (contents, encoded_bytes) = self.load(parts, &wanted, body.len() as u64, memory).await?;
            let length = usize::try_from(encoded_bytes).unwrap_or(usize::MAX);
            body = off_thread(length, || inputs::insert(&body, &contents)).map(Bytes::from)?;
            drop(contents);
            memory.shrink(body.len());
        }
        // Translating the body reserves its own.
        memory.end_work();
        Ok(body)
    }

    /// Loads the files, each once. Also returns the length of the body with them.
    async fn load(
        &self,
        parts: &Parts,
        wanted: &[FileInput],
        body_bytes: u64,
        memory: &mut Reservation,
    ) -> Result<(BTreeMap<String, FileContent>, u64), ProxyError> {
        let (owner, limit_bytes) = (owner(&parts.extensions), self.limits.body_bytes);
        let (mut contents, mut length) = (BTreeMap::new(), body_bytes);
        for FileInput { param, id } in wanted {
            let known = contents.get(id).map(|content: &FileContent| content.bytes.len() as u64);
            let mut opened = None;
            let bytes = if let Some(bytes) = known {
                bytes
            } else {
                let found = self.services.files.open(&owner, id).await;
                let found = found.map_err(|error| failed(&error, "File", id, param))?;
                opened.insert(found).0.bytes
            };
            length = length.saturating_add(inputs::encoded_bytes(bytes));
            if length > limit_bytes {
                let message = format!(
                    "with the content of its files, the request is longer than {limit_bytes} bytes (setting \
                     limits.body)"
                );
                return Err(Refusal::too_large(param, message));
            }
            let added = length - body_bytes;
            memory.set_buffered(usize::try_from(length.saturating_add(added)).unwrap_or(usize::MAX)).await?;
            if let Some((record, reader)) = opened {
                let read = self.services.files.read_all(reader, record.bytes).await;
                let bytes = read.map_err(|error| failed(&error, "File", id, param))?;
                contents.insert(id.clone(), FileContent { filename: record.filename, bytes });
            }
        }
        Ok((contents, length))
    }
}
