//! Who may do what: writes with a token, and nothing for pages of other sites in somebody's browser.
//!
//! A node on the loopback interface trusts whoever is on this host. But so is a browser, which sends requests for pages
//! of any site: they say so themselves, in `Origin` and `Sec-Fetch-Site`, and by the name in `Host` of a site that pretends
//! to be here. And so is a proxy, which passes on what anybody sends: by the name for which it stands, the node can tell.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::Response;
use subtle::ConstantTimeEq;

use super::errors::ApiError;
use super::state::Api;

/// From where a request came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Through the control socket, which only the node's user can open, or from within this process.
    Own,
    /// Over TCP, at a loopback address.
    Loopback,
    /// Over TCP, at another address, or under a name that the node was told: through a proxy in front, from anywhere.
    Elsewhere,
}

/// Lets a request pass, or says why not.
pub(super) async fn check(
    State((api, access)): State<(Api, Access)>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let headers = request.headers();
    if access != Access::Own {
        check_host(headers, access, api.hosts())?;
    }
    let is_read = [Method::GET, Method::HEAD, Method::OPTIONS].contains(request.method());
    if !is_read && access != Access::Own {
        let access = if is_proxied(headers, api.hosts()) { Access::Elsewhere } else { access };
        check_write(&api, headers, access)?;
    }
    Ok(next.run(request).await)
}

/// Whether the name that the client thinks it talks to can be this host's: else a name of somebody else's led it here.
fn check_host(headers: &HeaderMap, access: Access, own: &[String]) -> Result<(), ApiError> {
    let host = headers.get(header::HOST).map(|host| host.to_str().unwrap_or_default());
    let Some(host) = host else { return Ok(()) };
    let name = name_of(host);
    let is_address = name.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>().is_ok();
    if access == Access::Elsewhere || is_address || name.eq_ignore_ascii_case("localhost") || is_own(name, own) {
        return Ok(());
    }
    let words = "is no name of this host; ask for localhost or an address, or tell the node its name (--http-host)";
    Err(ApiError::forbidden("foreign_host", format!("`{host}` {words}")))
}

/// The name in front of a port.
fn name_of(host: &str) -> &str {
    host.rsplit_once(':').map_or(host, |(name, port)| if port.ends_with(']') { host } else { name })
}

/// Whether the node was told that the name is its own.
fn is_own(name: &str, own: &[String]) -> bool {
    own.iter().any(|own| own.eq_ignore_ascii_case(name))
}

/// Whether somebody was led here by a name that the node was told. A proxy may put another `Host` in its place, but leaves
/// that of a page.
fn is_proxied(headers: &HeaderMap, own: &[String]) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let page = text(header::ORIGIN).split_once("://").map_or("", |(_, place)| place);
    [text(header::HOST), page].into_iter().any(|place| is_own(name_of(place), own))
}

fn check_write(api: &Api, headers: &HeaderMap, access: Access) -> Result<(), ApiError> {
    if let Some(token) = api.token() {
        let shown = headers.get(header::AUTHORIZATION).and_then(|value| bearer(value.as_bytes()));
        // Every byte is compared, so that the time says nothing of the token.
        return match shown {
            Some(shown) if bool::from(shown.ct_eq(token.as_bytes())) => Ok(()),
            Some(_) => Err(ApiError::unauthorized("bad_token", "the token is not the right one")),
            None => Err(ApiError::unauthorized("no_token", "writes need the header `Authorization: Bearer TOKEN`")),
        };
    }
    if access == Access::Elsewhere {
        let words = "this node takes no writes from here; it would with a token (dht node --http-token-file)";
        return Err(ApiError::forbidden("read_only", words));
    }
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    let is_foreign_site = site.is_some_and(|site| !matches!(site, b"same-origin" | b"none"));
    let origin = headers.get(header::ORIGIN).map(|origin| origin.to_str().unwrap_or_default());
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let is_foreign_origin = origin.is_some_and(|origin| origin.strip_prefix("http://") != Some(host));
    if is_foreign_site || is_foreign_origin {
        return Err(ApiError::forbidden("foreign_origin", "this node takes no writes from pages of other sites"));
    }
    Ok(())
}

/// The token in the header that shows one.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

/// Has browsers take what is here for what it says it is: a value may be anything, and is nobody's page.
pub(super) async fn note_sniffers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(all: &[(&'static str, &str)]) -> HeaderMap {
        all.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn only_names_of_this_host_lead_to_a_loopback_address() {
        let own = ["dht.example.org".to_owned()];
        let check = |host, access| check_host(&headers(&[("host", host)]), access, &own).is_ok();
        for host in ["localhost", "LocalHost:8080", "127.0.0.1:80", "[::1]:8080", "[::1]", "192.0.2.1:1"] {
            assert!(check(host, Access::Loopback), "{host}");
        }
        for host in ["dht.example.org", "DHT.example.org:443"] {
            assert!(check(host, Access::Loopback), "{host}");
        }
        for host in ["example.org", "localhost.example.org:8080", "a.dht.example.org", "dht.example.org.", "", ":80"] {
            assert!(!check(host, Access::Loopback), "{host}");
            assert!(check(host, Access::Elsewhere), "{host}");
        }
    }

    #[test]
    fn who_comes_by_a_name_that_the_node_was_told_comes_through_a_proxy() {
        let own = ["dht.example.org".to_owned()];
        let is_proxied = |host, origin| is_proxied(&headers(&[("host", host), ("origin", origin)]), &own);
        let here = "127.0.0.1:8080";
        for host in ["dht.example.org", "DHT.example.org:443"] {
            assert!(is_proxied(host, "null"), "{host}");
        }
        for origin in ["https://dht.example.org", "http://dht.example.org:8443"] {
            assert!(is_proxied(here, origin), "{origin}");
        }
        for origin in ["http://127.0.0.1:8080", "https://example.org", "null", ""] {
            assert!(!is_proxied(here, origin) && !is_proxied("localhost", origin), "{origin}");
        }
    }

    #[test]
    fn the_token_is_what_follows_the_scheme() {
        assert_eq!(bearer(b"Bearer abc"), Some(&b"abc"[..]));
        assert_eq!(bearer(b"bearer  abc "), Some(&b"abc"[..]));
        for other in [&b"Basic abc"[..], b"Bearer", b"", b"abc"] {
            assert_eq!(bearer(other), None);
        }
    }
}
