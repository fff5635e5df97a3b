//! Signals: some stop what the program does, a training after it has saved; one becomes an error of the write that caused it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::report::say;
use anyhow::{Context, Result};

/// Handles a signal. A second Ctrl-C ends the program at once, and only the steps since the last checkpoint
/// are lost. Other signals may come twice when a terminal is closed.
fn stop(stop: &AtomicBool, is_ctrl_c: bool, says: &str) {
    if stop.swap(true, Ordering::Relaxed) {
        if is_ctrl_c {
            std::process::exit(130);
        }
        return;
    }
    say(&format!("\n{says} (press Ctrl-C again to stop at once)"));
}

/// What a training does after the first signal.
pub(crate) const SAVING: &str = "finishing the step and saving";

/// Set by the first signal that asks to stop, after which the program `says` what it does; one flag for all that the
/// program does.
pub(crate) fn stop_signal(says: &'static str) -> Result<Arc<AtomicBool>> {
    static FLAG: Mutex<Option<Arc<AtomicBool>>> = Mutex::new(None);
    let mut flag = FLAG.lock().unwrap_or_else(PoisonError::into_inner);
    if flag.is_none() {
        *flag = Some(listen(says)?);
    }
    Ok(flag.clone().unwrap_or_default())
}

/// Ctrl-C (SIGINT), SIGTERM or SIGHUP. A signal that was ignored when the program was
/// started stays ignored: `nohup` does that to SIGHUP, and a shell without job control to the SIGINT of
/// what it runs in the background.
#[cfg(unix)]
fn listen(says: &'static str) -> Result<Arc<AtomicBool>> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

    let ignored = ignored_signals();
    let wanted = [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|signal| ignored >> (signal - 1) & 1 == 0);
    let mut signals = signal_hook::iterator::Signals::new(wanted).context("cannot listen for signals")?;
    let flag = Arc::new(AtomicBool::new(false));
    let shared = Arc::clone(&flag);
    let listen = move || signals.forever().for_each(|signal| stop(&shared, signal == SIGINT, says));
    std::thread::Builder::new().name("signals".into()).spawn(listen).context("cannot listen for signals")?;
    Ok(flag)
}

/// Ctrl-C.
#[cfg(not(unix))]
fn listen(says: &'static str) -> Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    let shared = Arc::clone(&flag);
    ctrlc::set_handler(move || stop(&shared, true, says)).context("cannot listen for Ctrl-C")?;
    Ok(flag)
}

/// One bit for each ignored signal, signal 1 in the lowest. Only Linux provides this without `unsafe`;
/// elsewhere all signals count as not ignored.
#[cfg(unix)]
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

/// Makes a write beyond the largest file size (`ulimit -f`) an error, as on a full disk, instead of a
/// signal that ends the program.
pub(crate) fn file_limit_is_an_error() {
    // Any handler will do. Without one the program ends as it would have.
    #[cfg(unix)]
    let _ = signal_hook::flag::register(signal_hook::consts::SIGXFSZ, Arc::default());
}
