//! Progress bars on the terminal; silent where there is none.

use std::time::Duration;

use bowerbird_catalog::Progress;
use indicatif::{ProgressBar, ProgressStyle};
use parking_lot::Mutex;

/// A bar for downloads, one at a time.
#[derive(Default)]
pub struct Bars {
    current: Mutex<Option<ProgressBar>>,
}

impl Progress for Bars {
    fn begin(&self, what: &str, total_bytes: u64) {
        let bar = ProgressBar::new(total_bytes).with_message(what.to_owned());
        bar.set_style(
            ProgressStyle::with_template(
                "{msg:40!} {bar:24} {bytes:>10}/{total_bytes:10} {bytes_per_sec} {eta}",
            )
            .unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        bar.enable_steady_tick(Duration::from_millis(200));
        *self.current.lock() = Some(bar);
    }

    fn advance(&self, bytes: u64) {
        if let Some(bar) = &*self.current.lock() {
            bar.inc(bytes);
        }
    }

    fn end(&self, _what: &str) {
        if let Some(bar) = self.current.lock().take() {
            bar.finish();
        }
    }
}

/// A bar over `total` things.
pub fn counting(what: &str, total: u64) -> ProgressBar {
    let bar = ProgressBar::new(total).with_message(what.to_owned());
    bar.set_style(
        ProgressStyle::with_template("{msg:40!} {bar:24} {pos:>7}/{len:7} {per_sec} {eta}")
            .unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    bar
}
