//! The API's own description (OpenAPI 3.1), made from the code that serves it.

use axum::Json;
use utoipa::OpenApi;

use super::{callback, events, imports, keys, logins, notify, servers, status, timeline, views};

#[derive(OpenApi)]
#[openapi(
    info(title = "everfresh", description = "Logins that stay fresh. Every call needs the local key."),
    paths(
        servers::list,
        servers::show,
        servers::add,
        servers::change,
        servers::remove,
        servers::logout,
        servers::refresh,
        servers::enable,
        servers::disable,
        servers::journal,
        timeline::timeline,
        servers::token,
        servers::settings,
        imports::take,
        imports::undo,
        logins::start,
        logins::under_way,
        logins::outcome,
        logins::cancel,
        logins::answer,
        notify::test,
        keys::own,
        keys::list,
        keys::add,
        keys::change,
        keys::rotate,
        keys::remove,
        keys::rotate_local,
        status::healthz,
        status::readyz,
        status::metrics,
        status::status,
        status::page_link,
        events::events,
        callback::callback,
        document,
    ),
    components(schemas(
        imports::NewImport,
        imports::NewLogin,
        imports::Imported,
        views::Server,
        views::Servers,
        views::NewServer,
        views::NewOAuth,
        views::Change,
        views::Refreshed,
        views::AccessToken,
        keys::Key,
        keys::Keys,
        keys::KeyWish,
        keys::KeyChange,
        keys::Holder,
        keys::MadeKey,
        keys::LocalKeySecret,
        keys::OwnKey,
        views::LoginWish,
        views::LoginStarted,
        views::DevicePrompt,
        views::PastedAnswer,
        views::LoginState,
        views::Journal,
    ))
)]
struct Description;

/// The document.
#[utoipa::path(get, path = "/openapi.json", responses((status = 200)))]
pub(super) async fn document() -> Json<utoipa::openapi::OpenApi> {
    Json(Description::openapi())
}
