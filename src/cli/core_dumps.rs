//! Keeps tokens out of core dumps.

/// Disables core dumps of this process. On Linux it also becomes non-dumpable, because a dump that is piped to a
/// program ignores the size limit; other processes of the same user then can't read its memory either.
#[cfg(unix)]
pub(super) fn disable() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Core).maximum;
    // Best effort: if the system refuses a call, the program still works.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum });
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
}

#[cfg(not(unix))]
pub(super) fn disable() {}
