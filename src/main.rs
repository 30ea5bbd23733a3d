//! The executable: chooses the role.
//!
//! Only this file knows monitor, relay and session.

use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rlogind::cli::{
    self, Change, Command, ConfigFile, Control, Inetd, Serve, Socket, Superserver, Tcpmux, Trust,
};
use rlogind::config::{self, Config, Source};
use rlogind::control::{self, Form, Place};
use rlogind::doctor::{self, Consultation};
use rlogind::monitor::{self, Greeting, Options};
use rlogind::sys::channel::Channel;
use rlogind::sys::process;
use rlogind::tcpmux::{self, Entry, How, Named, Places};
use rlogind::trust::{check::CheckWhich, explain::ExplainArgs};
use rlogind::{check, relay, session, trust};

fn main() -> ExitCode {
    // The two roles first: they are started often, and with nothing else to read.
    match std::env::args_os().nth(1).as_deref().and_then(OsStr::to_str) {
        Some(monitor::RELAY_ROLE) => finish(inherited_channel().and_then(relay::run).map(|()| true)),
        Some(monitor::SESSION_ROLE) => finish(inherited_channel().and_then(session::run).map(|()| true)),
        Some(monitor::REHEARSAL_ROLE) => finish(inherited_channel().and_then(rehearse).map(|()| true)),
        _ => command(),
    }
}

fn command() -> ExitCode {
    let cli = match cli::read(std::env::args_os().collect()) {
        Ok(cli) => cli,
        // A superserver's client would see it as part of the protocol.
        Err(error) if process::take_connection().is_ok() => {
            let text = error.to_string();
            monitor::complain(&format!("the command line: {}", text.lines().next().unwrap_or_default()));
            return ExitCode::from(2);
        }
        Err(error) => error.exit(),
    };
    let out = &mut io::stdout().lock();
    match cli.command {
        None => serve(cli.serve),
        Some(Command::Inetd(args)) => inetd(args),
        Some(Command::Check(config)) => finish(check::run(config.path(), out)),
        Some(Command::Trust(Trust::Explain(args))) => with_config(&args.config, |config, source| {
            let explain = ExplainArgs {
                from: args.from,
                port: Some(args.port),
                remote_user: &args.remote_user,
                user: &args.user,
                config,
                config_path: &source.to_string(),
                json: args.json,
            };
            trust::explain::explain(&explain, out).map(|()| true)
        }),
        Some(Command::Trust(Trust::Check(args))) => with_config(&args.config, |config, _| {
            let which = args.user.clone().map_or(CheckWhich::All, CheckWhich::User);
            trust::check::check(&which, config, out).map(|wrong| !wrong)
        }),
        Some(Command::Tcpmux(command)) => register(command, out),
        Some(Command::Doctor(args)) => {
            let asked = Consultation { config: args.config.path(), clients: &args.client, json: args.json };
            finish(doctor::run(&asked, out))
        }
        Some(Command::Control(command)) => ask(command, out),
    }
}

/// Asks the daemon that runs.
fn ask(command: Control, out: &mut dyn Write) -> ExitCode {
    match command {
        Control::Sessions(args) => finish(control::sessions(place(&args.daemon), args.json, args.watch, out)),
        Control::Kill(args) => finish(control::kill(place(&args.daemon), &args.ids, out)),
        Control::Message(args) => match args.parts() {
            Ok((to, text)) => finish(control::message(place(&args.daemon), to, &text, out)),
            Err(error) => {
                fail(&error);
                ExitCode::from(2)
            }
        },
        Control::Status(args) => {
            let form = match (args.json, args.metrics) {
                (true, _) => Form::Json,
                (false, true) => Form::Metrics,
                (false, false) => Form::Text,
            };
            finish(control::status(place(&args.daemon), form, out))
        }
        Control::Drain(daemon) => finish(control::drain(place(&daemon), out)),
        Control::Upgrade(daemon) => finish(control::upgrade(place(&daemon), out)),
        Control::Reload(daemon) => finish(control::reload(place(&daemon), out)),
    }
}

fn place(daemon: &Socket) -> Place<'_> {
    Place { socket: daemon.socket.as_deref(), config: daemon.config.path() }
}

fn register(command: Tcpmux, out: &mut dyn Write) -> ExitCode {
    let how = |change: &Change| How { reload: !change.no_reload, dry_run: change.dry_run };
    let places = Places::system();
    match command {
        Tcpmux::Register(args) => with_config(&args.config, |config, _| {
            let entry = superserver_entry(&args.config, config)?;
            tcpmux::register(named(&args.superserver), &entry, how(&args.change), &places, out).map(|()| true)
        }),
        Tcpmux::Unregister(args) => {
            // Nothing of it is needed, but one that was named by a slip is an error here as well.
            if let Some(Err(error)) = args.config.path().map(config::load) {
                return fail(&error);
            }
            let how = how(&args.change);
            finish(tcpmux::unregister(named(&args.superserver), how, &places, out).map(|()| true))
        }
        Tcpmux::Status(args) => with_config(&args.config, |config, _| {
            let entry = superserver_entry(&args.config, config)?;
            tcpmux::status(named(&args.superserver), &entry, &places, out)
        }),
    }
}

fn named(args: &Superserver) -> Named<'_> {
    Named { inetd_conf: args.inetd_conf.as_deref(), xinetd_dir: args.xinetd_dir.as_deref() }
}

/// How a superserver starts the executable that this process runs.
fn superserver_entry(file: &ConfigFile, config: &Config) -> io::Result<Entry> {
    let config_path = file.path().map(absolute);
    Entry::new(&std::env::current_exe()?, config_path.as_deref(), &config.tcpmux.services)
        .map_err(io::Error::other)
}

/// Says to the daemon whether this version could take it over, with its arguments.
fn rehearse(channel: Channel) -> io::Result<()> {
    let arguments = std::env::args_os().take(1).chain(std::env::args_os().skip(2));
    monitor::rehearse(&channel, || {
        let cli = cli::read(arguments.collect()).map_err(|error| error.to_string())?;
        let loaded = config::load_default_or(cli.serve.config.path());
        let (mut config, source) = loaded.map_err(|error| error.brief())?;
        if !cli.serve.listen.is_empty() {
            config.listen = cli.serve.listen;
        }
        Ok((config, source.to_string()))
    })
}

/// The arguments with which another version of this program serves as this one does.
fn arguments(args: &Serve) -> Vec<OsString> {
    let config = args.config.path().map(|path| ["--config".into(), absolute(path).into_os_string()]);
    let listen = args.listen.iter().map(|address| ["--listen".into(), address.to_string().into()]);
    let stderr = args.stderr.then(|| "--stderr".into());
    config.into_iter().chain(listen).flatten().chain(stderr).collect()
}

fn serve(args: Serve) -> ExitCode {
    if monitor::is_trial() {
        return finish(inherited_channel().and_then(|channel| monitor::try_out(&channel)).map(|()| true));
    }
    // A daemon that is taken over has found a configuration good already.
    let loaded = monitor::rehearsed_config().map_or_else(
        || {
            let loaded = config::load_default_or(args.config.path());
            loaded.map(|(config, source)| (config, source.to_string()))
        },
        Ok,
    );
    let (mut config, source) = match loaded {
        Ok(loaded) => loaded,
        Err(error) => return fail(&error),
    };
    let arguments = arguments(&args);
    if !args.listen.is_empty() {
        config.listen = args.listen;
    }
    let options = Options {
        config,
        source,
        stderr: args.stderr,
        daemon: args.daemon.then_some(args.pid_file.as_deref().map(absolute)),
        arguments,
    };
    match monitor::run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

/// Serves the connection that is standard input. What goes wrong reaches the log;
/// standard error is that connection, too.
fn inetd(args: Inetd) -> ExitCode {
    let client = match process::take_connection() {
        Ok(client) => client,
        Err(error) => {
            fail(&format!("standard input is not a connected TCP socket: {error}"));
            return ExitCode::from(2);
        }
    };
    let (mut config, source) = match config::load_default_or(args.config.path()) {
        Ok(loaded) => loaded,
        Err(error) => {
            monitor::complain(&error.brief());
            return ExitCode::FAILURE;
        }
    };
    config.login.confirm_host |= args.confirm_host;
    config.limits.keepalive &= !args.no_keepalive;
    config.trust.rhosts &= !(args.no_rhosts || args.no_files);
    config.trust.hosts_equiv &= !args.no_files;
    let options =
        Options { config, source: source.to_string(), stderr: false, daemon: None, arguments: Vec::new() };
    let greeting = if args.tcpmux_reply { Greeting::Tcpmux } else { Greeting::None };
    match monitor::run_inetd(options, client, greeting) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// A path that means the same after the daemon has left for `/`.
fn absolute(path: impl AsRef<Path>) -> PathBuf {
    std::path::absolute(&path).unwrap_or_else(|_| path.as_ref().to_owned())
}

fn with_config(file: &ConfigFile, run: impl FnOnce(&Config, &Source) -> io::Result<bool>) -> ExitCode {
    match config::load_default_or(file.path()) {
        Ok((config, source)) => finish(run(&config, &source)),
        Err(error) => fail(&error),
    }
}

/// The channel that the monitor made our standard input.
fn inherited_channel() -> io::Result<Channel> {
    let channel = Channel::from_inherited(io::stdin().as_fd().try_clone_to_owned()?)?;
    // PAM modules start helpers; standard input is what those would inherit.
    process::close_stdin()?;
    process::close_inherited(&channel);
    Ok(channel)
}

fn finish(outcome: io::Result<bool>) -> ExitCode {
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        // Whoever read the output has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn fail(error: &dyn Display) -> ExitCode {
    let _ = writeln!(io::stderr(), "rlogind: {error}");
    ExitCode::FAILURE
}
