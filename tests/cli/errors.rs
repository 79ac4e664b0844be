//! Errors that the suggested commands must fix.

use std::net::TcpListener;

use super::{CommandOutput, Daemon, Home};

/// No program listens there.
const DEAD_END: &str = "http://127.0.0.1:1";

/// The command at the end of a line.
fn command_of(line: &str) -> &str {
    let line = line
        .trim_end()
        .trim_end_matches('.')
        .strip_suffix('`')
        .unwrap_or_else(|| panic!("no command at the end: {line}"));
    line.rsplit_once('`').unwrap().1
}

/// The line of a report about one subject.
fn line<'r>(report: &'r str, about: &str) -> &'r str {
    report.lines().find(|line| line.contains(about)).unwrap_or_else(|| panic!("{about}: {report}"))
}

impl Home {
    /// Every outgoing connection fails.
    fn alone(&self, arguments: &[&str]) -> CommandOutput {
        let mut command = self.command(arguments);
        command.env("CODEX_PROXY_UPSTREAM_URL", DEAD_END).env("CODEX_PROXY_AUTH_URL", DEAD_END);
        CommandOutput::from(command.env("CODEX_PROXY_LISTEN", "127.0.0.1:0").output().unwrap())
    }
}

#[test]
fn suggested_commands_contain_the_config_flag() {
    let home = Home::new("");
    let other = home.0.path().join("my settings.toml");
    std::fs::write(&other, "").unwrap();
    let given = ["--config", other.to_str().unwrap()];
    let ours = format!("codex-proxy --config '{}'", other.display());
    let status = home.alone(&[&given[..], &["status", "--offline"]].concat());
    assert_eq!(command_of(line(&status.stdout, " login`")).trim(), format!("{ours} login"));
    assert_eq!(command_of(line(&status.stdout, " serve`")).trim(), format!("{ours} serve"));
    let doctor = home.alone(&[&given[..], &["doctor"]].concat());
    assert_eq!(command_of(line(&doctor.stdout, " token ")), format!("{ours} login"));
    assert_eq!(command_of(&home.alone(&[&given[..], &["token"]].concat()).stderr), format!("{ours} login"));
}

#[test]
fn a_port_in_use_is_reported_with_a_command_that_works() {
    let home = Home::new("");
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = held.local_addr().unwrap().port().to_string();
    let ended = home.run(&["serve", "--demo", "--host", "127.0.0.1", "--port", &port]);
    assert_eq!((ended.code, ended.stderr.lines().count()), (1, 1), "{}", ended.stderr);
    let by =
        if cfg!(target_os = "linux") { format!("(process {})", std::process::id()) } else { "in use by".to_owned() };
    assert!(ended.stderr.contains(&port) && ended.stderr.contains(&by), "{}", ended.stderr);
    let arguments: Vec<_> = command_of(&ended.stderr).split(' ').skip(1).collect();
    assert_eq!(&arguments[..3], ["serve", "--demo", "--port"]);
    Daemon::start(&home, &arguments);
}

#[test]
fn an_already_running_daemon_is_reported() {
    let home = Home::new("");
    let daemon = Daemon::start(&home, &["serve", "--demo", "--host", "127.0.0.1", "--port", "0"]);
    let again = ["serve", "--demo", "--host", "127.0.0.1", "--port", daemon.port()];
    let ended = home.run(&again);
    assert_eq!((ended.code, command_of(&ended.stderr)), (1, "codex-proxy status"));
    assert!(ended.stderr.contains("already running") && ended.stderr.contains(&daemon.base_url), "{}", ended.stderr);
    // With other settings, the suggestion differs: stop the daemon or leave it.
    let ended = Home::new("").run(&again);
    assert!(ended.stderr.contains("another codex-proxy at"), "{}", ended.stderr);
}

#[test]
fn a_daemon_without_a_run_file_is_distinguished_from_another_program() {
    let home = Home::new("");
    let daemon = Daemon::start(&home, &["serve", "--demo", "--host", "127.0.0.1", "--port", "0"]);
    std::fs::remove_file(home.0.path().join("run.json")).unwrap();
    let mut doctor = home.command(&["doctor"]);
    doctor.env("CODEX_PROXY_LISTEN", format!("127.0.0.1:{}", daemon.port()));
    doctor.env("CODEX_PROXY_UPSTREAM_URL", DEAD_END).env("CODEX_PROXY_AUTH_URL", DEAD_END);
    let reported = CommandOutput::from(doctor.output().unwrap()).stdout;
    let port = line(&reported, " port ");
    assert!(port.starts_with("warning") && port.contains(&daemon.base_url), "{port}");
}

#[cfg(unix)]
#[test]
fn the_suggested_command_recovers_from_a_damaged_store_without_a_copy() {
    use std::os::unix::fs::PermissionsExt;
    let home = Home::new("");
    let (store, aside) = ("credentials.json", "credentials.json.damaged");
    std::fs::write(home.0.path().join(store), "{").unwrap();
    std::fs::set_permissions(home.0.path().join(store), std::fs::Permissions::from_mode(0o600)).unwrap();
    let status = home.alone(&["status"]);
    assert_eq!((status.code, status.stderr.lines().count()), (1, 1), "{}", status.stderr);
    let reported = command_of(&status.stderr);
    assert_eq!(command_of(line(&home.alone(&["doctor"]).stdout, " store ")), reported);
    assert_eq!(command_of(&home.alone(&["accounts", "restore"]).stderr), reported);
    let (moving, then) = reported.split_once(" && ").unwrap();
    assert_eq!(then, "codex-proxy login");
    assert!(std::process::Command::new("sh").args(["-c", moving]).status().unwrap().success());
    assert_eq!(std::fs::read_to_string(home.0.path().join(aside)).unwrap(), "{");
    assert_eq!(home.alone(&["status"]).code, 3);
}

#[cfg(unix)]
#[test]
fn a_directory_at_the_path_of_the_store_is_moved_away() {
    let home = Home::new("");
    std::fs::create_dir(home.0.path().join("credentials.json")).unwrap();
    let status = home.alone(&["status"]);
    assert_eq!((status.code, command_of(&status.stderr)), (1, "codex-proxy doctor"), "{}", status.stderr);
    let reported = home.alone(&["doctor"]).stdout;
    let command = command_of(line(&reported, " store "));
    assert!(std::process::Command::new("sh").args(["-c", command]).status().unwrap().success(), "{command}");
    assert_eq!(home.alone(&["status"]).code, 3);
}

#[cfg(unix)]
#[test]
fn an_unwritable_directory_is_reported_with_the_command_that_fixes_it() {
    use std::os::unix::fs::PermissionsExt;
    let home = Home::new("");
    let folder = home.0.path().join("data");
    std::fs::create_dir(&folder).unwrap();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o500)).unwrap();
    if std::fs::write(folder.join("probe"), "").is_ok() {
        return; // The superuser may write anywhere.
    }
    let mut doctor = home.command(&["doctor"]);
    doctor
        .env("CODEX_PROXY_AUTH_CREDENTIALS", folder.join("credentials.json"))
        .env("CODEX_PROXY_LISTEN", "127.0.0.1:0");
    doctor.env("CODEX_PROXY_UPSTREAM_URL", DEAD_END).env("CODEX_PROXY_AUTH_URL", DEAD_END);
    let reported = CommandOutput::from(doctor.output().unwrap()).stdout;
    let command = command_of(line(&reported, " files "));
    assert!(std::process::Command::new("sh").args(["-c", command]).status().unwrap().success(), "{command}");
    std::fs::write(folder.join("probe"), "").unwrap();
}

#[test]
fn a_login_that_cannot_connect_suggests_the_doctor_command() {
    let ended = Home::new("").alone(&["login", "--device"]);
    assert_eq!((ended.code, ended.stderr.lines().count()), (1, 1), "{}", ended.stderr);
    assert_eq!(command_of(&ended.stderr), "codex-proxy doctor");
    assert!(ended.stderr.contains("Connection refused") || cfg!(windows), "{}", ended.stderr);
    assert!(!ended.stderr.contains("client error"), "{}", ended.stderr);
}

#[test]
fn config_errors_are_in_line_order() {
    let ended = Home::new("zeta = 1\nalpha = 1\n").run(&["config", "check"]);
    let lines: Vec<_> = ended.stderr.lines().filter(|line| line.contains("unknown key")).collect();
    assert!(lines[0].contains("toml:1: zeta") && lines[1].contains("toml:2: alpha"), "{}", ended.stderr);
}

#[test]
fn a_missing_ca_file_is_reported_with_its_source() {
    let home = Home::new("[upstream]\nca_file = '/nowhere/ca.pem'\n");
    let reported = home.alone(&["doctor"]).stdout;
    let network = line(&reported, " network ");
    let source = format!("{}:2", home.file().display());
    assert!(
        network.starts_with("wrong") && network.contains("/nowhere/ca.pem") && network.contains(&source),
        "{network}"
    );
    let mut doctor = Home::new("").command(&["doctor"]);
    doctor.env("SSL_CERT_FILE", "/nowhere/ca.pem").env("CODEX_PROXY_LISTEN", "127.0.0.1:0");
    doctor.env("CODEX_PROXY_UPSTREAM_URL", DEAD_END).env("CODEX_PROXY_AUTH_URL", DEAD_END);
    let reported = CommandOutput::from(doctor.output().unwrap()).stdout;
    let unset = if cfg!(windows) { "set SSL_CERT_FILE=" } else { "unset SSL_CERT_FILE" };
    assert_eq!(command_of(line(&reported, " network ")), unset);
}
