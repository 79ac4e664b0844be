//! The baseline: a proxy that forwards bytes without parsing them, built from the same crates (tokio, hyper)
//! with the same process model.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;

use http_body_util::Either;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

type Upstream = Client<HttpConnector, Incoming>;
type Body = Either<Incoming, String>;

/// Serves until the process exits.
pub(crate) async fn serve(listener: TcpListener, upstream: SocketAddr) -> io::Result<()> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client: Upstream = Client::builder(TokioExecutor::new()).build(connector);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let client = client.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| forward(client.clone(), upstream, request));
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await
        });
    }
}

async fn forward(
    client: Upstream,
    upstream: SocketAddr,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let uri = format!("http://{upstream}{}", request.uri().path());
    let sent = match uri.parse() {
        Ok(uri) => {
            *request.uri_mut() = uri;
            client.request(request).await.map_err(|error| error.to_string())
        }
        Err(error) => Err(error.to_string()),
    };
    Ok(match sent {
        Ok(response) => response.map(Either::Left),
        Err(cause) => {
            let mut response = Response::new(Either::Right(cause));
            *response.status_mut() = StatusCode::BAD_GATEWAY;
            response
        }
    })
}
