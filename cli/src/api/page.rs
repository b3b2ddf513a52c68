//! `/`: the page, for people with a browser. It is one file, part of the program, and asks the same API as everybody.

use std::sync::LazyLock;

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64ct::{Base64, Encoding};
use sha2::{Digest, Sha256};

use super::stored::is_known;

const PAGE: &str = include_str!("../page/index.html");

/// What a browser may do for the page: run its own script, apply its own style, and ask this node.
///
/// Script and style are named by their hashes. So even if something came into the page by way of a value or of what another
/// node says, it could not run.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let (script, style) = (hash(within("script")), hash(within("style")));
    let policy = format!(
        "default-src 'none'; script-src '{script}'; style-src '{style}'; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    HeaderValue::from_str(&policy).unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'"))
});

static TAG: LazyLock<HeaderValue> = LazyLock::new(|| {
    HeaderValue::from_str(&format!("\"{}\"", hash(PAGE))).unwrap_or_else(|_| HeaderValue::from_static("\"\""))
});

/// The content of the page's only element of a name.
fn within(element: &str) -> &'static str {
    let content =
        PAGE.split_once(&format!("<{element}>")).and_then(|(_, rest)| rest.split_once(&format!("</{element}>")));
    content.map_or("", |(content, _)| content)
}

/// The hash of a text, as policies have it.
fn hash(text: &str) -> String {
    format!("sha256-{}", Base64::encode_string(&Sha256::digest(text)))
}

/// The page.
pub(super) async fn get(headers: HeaderMap) -> Response {
    // Asked for each time, so that a new version of the program shows its own page; mostly answered with 304.
    let kept = [(header::ETAG, TAG.clone()), (header::CACHE_CONTROL, HeaderValue::from_static("no-cache"))];
    if is_known(&headers, &TAG) {
        return (StatusCode::NOT_MODIFIED, kept).into_response();
    }
    let rules = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (header::CONTENT_SECURITY_POLICY, POLICY.clone()),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    (kept, rules, PAGE).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_names_what_is_in_the_page() {
        for element in ["script", "style"] {
            assert!(within(element).len() > 1000, "{element}");
            // What is not named would not work.
            assert_eq!(PAGE.matches(&format!("<{element}")).count(), 1, "{element}");
        }
        for blocked in [" style=\"", "javascript:", " onclick", " src=\"http", "url("] {
            assert!(!PAGE.contains(blocked), "{blocked}");
        }
        // Of the empty text, by `printf '' | openssl dgst -sha256 -binary | base64`.
        assert_eq!(hash(""), "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
        assert_ne!(POLICY.to_str().unwrap(), "default-src 'none'");
    }
}
