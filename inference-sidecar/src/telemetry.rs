//! The log: one JSON object per line on stderr; ids, counts and times, never texts.

use tracing_subscriber::EnvFilter;

/// Installs the process-wide log with `filter`.
pub fn start(filter: &str) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(filter)?;
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .try_init()
        .map_err(anyhow::Error::msg)?;
    // A panic's message may quote the text that caused it, so only the place is written.
    std::panic::set_hook(Box::new(|panic| match panic.location() {
        Some(place) => tracing::error!(file = place.file(), line = place.line(), "panic"),
        None => tracing::error!("panic"),
    }));
    Ok(())
}
