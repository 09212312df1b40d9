//! Middleware for Tower.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::{HeaderValue, CONTENT_TYPE, HOST};
use http::{Extensions, Request, Response, StatusCode};
use tower_layer::Layer;
use tower_service::Service;

use crate::middleware::{Guard, Refusal, Validator};

/// The address of the connection's other end, where the server puts it among the request's extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub IpAddr);

type FindPeer = dyn Fn(&Extensions) -> Option<IpAddr> + Send + Sync;

struct Shared<V> {
    client: V,
    guard: Guard,
    peer: Box<FindPeer>,
}

/// Lets requests through where the license holds. Handlers find the [`Outcome`](crate::Outcome) among the request's
/// extensions; other requests get 403 or 503 as `application/problem+json`.
pub struct LicenseLayer<V> {
    shared: Arc<Shared<V>>,
}

impl<V: Validator> LicenseLayer<V> {
    /// The other end's address is a [`Peer`] or a `SocketAddr` among the request's extensions.
    pub fn new(client: V, guard: Guard) -> LicenseLayer<V> {
        LicenseLayer::with_peer(client, guard, |extensions| {
            let address = extensions.get::<SocketAddr>().map(SocketAddr::ip);
            extensions.get::<Peer>().map(|peer| peer.0).or(address)
        })
    }

    /// For servers that put the other end's address elsewhere, such as axum's `ConnectInfo`.
    pub fn with_peer(
        client: V,
        guard: Guard,
        peer: impl Fn(&Extensions) -> Option<IpAddr> + Send + Sync + 'static,
    ) -> LicenseLayer<V> {
        LicenseLayer {
            shared: Arc::new(Shared {
                client,
                guard,
                peer: Box::new(peer),
            }),
        }
    }
}

impl<V> Clone for LicenseLayer<V> {
    fn clone(&self) -> Self {
        LicenseLayer {
            shared: self.shared.clone(),
        }
    }
}

impl<V> std::fmt::Debug for LicenseLayer<V> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("LicenseLayer")
            .field("guard", &self.shared.guard)
            .finish()
    }
}

impl<S, V> Layer<S> for LicenseLayer<V> {
    type Service = LicenseService<S, V>;

    fn layer(&self, inner: S) -> LicenseService<S, V> {
        LicenseService {
            inner,
            shared: self.shared.clone(),
        }
    }
}

/// What [`LicenseLayer`] makes of a service.
pub struct LicenseService<S, V> {
    inner: S,
    shared: Arc<Shared<V>>,
}

impl<S: Clone, V> Clone for LicenseService<S, V> {
    fn clone(&self) -> Self {
        LicenseService {
            inner: self.inner.clone(),
            shared: self.shared.clone(),
        }
    }
}

impl<S: std::fmt::Debug, V> std::fmt::Debug for LicenseService<S, V> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("LicenseService")
            .field("inner", &self.inner)
            .finish()
    }
}

impl<S, V, RequestBody, ResponseBody> Service<Request<RequestBody>> for LicenseService<S, V>
where
    S: Service<Request<RequestBody>, Response = Response<ResponseBody>> + Clone + Send + 'static,
    S::Future: Send,
    V: Validator + 'static,
    RequestBody: Send + 'static,
    ResponseBody: From<String>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<RequestBody>) -> Self::Future {
        let validating = self
            .shared
            .client
            .validate_async(&domain(&self.shared, &request));
        // The clone is not ready yet; the one that is answers this request.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        Box::pin(async move {
            let outcome = validating.await;
            if !outcome.valid {
                return Ok(refuse(&Refusal::of(&outcome)));
            }
            request.extensions_mut().insert(outcome);
            inner.call(request).await
        })
    }
}

fn domain<V, B>(shared: &Shared<V>, request: &Request<B>) -> String {
    let text = |value: &HeaderValue| value.to_str().ok().map(str::to_string);
    // HTTP/2 has no Host header: the host is the URI's.
    let authority = request
        .uri()
        .authority()
        .map(|authority| authority.as_str().to_string());
    let host = authority
        .or_else(|| request.headers().get(HOST).and_then(text))
        .unwrap_or_default();
    let forwarded: Vec<String> = request
        .headers()
        .get_all("x-forwarded-host")
        .iter()
        .filter_map(text)
        .collect();
    let peer = (shared.peer)(request.extensions());
    shared
        .guard
        .domain(peer, &host, forwarded.iter().map(String::as_str))
        .to_string()
}

fn refuse<B: From<String>>(refusal: &Refusal) -> Response<B> {
    let mut response = Response::new(B::from(refusal.body.clone()));
    *response.status_mut() = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::FORBIDDEN);
    let content_type = HeaderValue::from_static(Refusal::CONTENT_TYPE);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}
