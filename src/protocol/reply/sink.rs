//! Where the events of a reply go: into the bytes of a stream, or into a document.

use bytes::BytesMut;

/// Encodes the events of one API for a stream, and folds them into a document.
///
/// A stream and a document are made of the same events, so that they can't differ.
pub trait Encoder: Send + 'static {
    /// An event for the client. It lives no longer than the call that makes it.
    type Event<'e>;

    /// Appends an event to the bytes of a stream.
    fn encode(&mut self, event: &Self::Event<'_>, wire: &mut BytesMut);

    /// Adds an event to the document, which the encoder holds.
    fn absorb(&mut self, event: &Self::Event<'_>);
}

/// Receives the events of a reply.
pub trait Sink<E: Encoder> {
    /// Accepts one event, and encodes or folds it with `encoder`.
    fn put(&mut self, encoder: &mut E, event: &E::Event<'_>);
}

/// The sink of a stream: encodes each event into a buffer.
#[derive(Debug)]
pub struct Wire<'w>(pub &'w mut BytesMut);

impl<E: Encoder> Sink<E> for Wire<'_> {
    fn put(&mut self, encoder: &mut E, event: &E::Event<'_>) {
        encoder.encode(event, self.0);
    }
}

/// The sink of a document: the encoder keeps what it needs of each event.
#[derive(Debug)]
pub struct Fold;

impl<E: Encoder> Sink<E> for Fold {
    fn put(&mut self, encoder: &mut E, event: &E::Event<'_>) {
        encoder.absorb(event);
    }
}
