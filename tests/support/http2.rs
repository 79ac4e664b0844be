//! The scripts of the fake backend over HTTP/2: one connection for all requests, one stream for each.

use std::future::poll_fn;
use std::io;

use bytes::Bytes;
use h2::server::{self, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use http::{Request, Response};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::{Recorded, Shared, Step};

pub(super) async fn serve(tls: TlsAcceptor, stream: TcpStream, shared: &Shared) -> io::Result<()> {
    let mut connection = server::handshake(tls.accept(stream).await?).await.map_err(io::Error::other)?;
    let mut exchanges = futures_util::stream::FuturesUnordered::new();
    loop {
        tokio::select! {
            accepted = connection.accept() => match accepted {
                Some(Ok((request, respond))) => exchanges.push(play(request, respond, shared)),
                Some(Err(_)) | None => break,
            },
            Some(_) = futures_util::StreamExt::next(&mut exchanges), if !exchanges.is_empty() => {}
        }
    }
    Ok(())
}

async fn play(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    shared: &Shared,
) -> Result<(), h2::Error> {
    let mut out: Option<SendStream<Bytes>> = None;
    for step in shared.take(record(request).await?).0 {
        match step {
            Step::Head(status, headers) => {
                let response = headers
                    .iter()
                    .fold(Response::builder().status(status), |response, (name, value)| response.header(name, value));
                out = Some(respond.send_response(response.body(()).unwrap(), false)?);
            }
            Step::Data(bytes) => out.as_mut().unwrap().send_data(bytes.into(), false)?,
            Step::End => out.as_mut().unwrap().send_data(Bytes::new(), true)?,
            Step::Pause(span) => tokio::time::sleep(span).await,
            Step::Wait(gate) => tokio::select! {
                () = gate.0.notified() => {}
                () = client_gone(&mut respond, &mut out) => {
                    shared.count_hang_up();
                    return Ok(());
                }
            },
            Step::Frame | Step::Hang => {
                client_gone(&mut respond, &mut out).await;
                shared.count_hang_up();
                return Ok(());
            }
            Step::Refuse => {
                respond.send_reset(Reason::REFUSED_STREAM);
                return Ok(());
            }
            Step::Close | Step::CloseWith(..) | Step::Reset => {
                // A reset drops queued data, so let the connection write it first.
                tokio::task::yield_now().await;
                match out.as_mut() {
                    Some(out) => out.send_reset(Reason::INTERNAL_ERROR),
                    None => respond.send_reset(Reason::INTERNAL_ERROR),
                }
                return Ok(());
            }
        }
    }
    Ok(())
}

async fn client_gone(respond: &mut SendResponse<Bytes>, out: &mut Option<SendStream<Bytes>>) {
    // Ignore a reset or a lost connection.
    let _ = match out {
        Some(out) => poll_fn(|cx| out.poll_reset(cx)).await,
        None => poll_fn(|cx| respond.poll_reset(cx)).await,
    };
}

async fn record(request: Request<RecvStream>) -> Result<Recorded, h2::Error> {
    let (head, mut incoming) = request.into_parts();
    let mut body = Vec::new();
    while let Some(bytes) = incoming.data().await {
        let bytes = bytes?;
        incoming.flow_control().release_capacity(bytes.len())?;
        body.extend_from_slice(&bytes);
    }
    let target = head.uri.path_and_query().unwrap().to_string();
    let wire_bytes = body.len();
    Ok(Recorded { method: head.method.to_string(), target, headers: head.headers, body, wire_bytes })
}
