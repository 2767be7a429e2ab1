//! Nagios as operators run it: it runs plugins, and says what it has understood.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use tempfile::TempDir;

use crate::{
    namespace::Namespace,
    program::{Program, find},
    signal,
};

const START: Duration = Duration::from_secs(30);

/// Where Nagios is, if it is anywhere.
pub fn program() -> Option<PathBuf> {
    find(&["nagios4", "nagios"])
}

/// What Nagios has understood of a plugin's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.
    pub state: u8,
    /// The text.
    pub output: String,
    /// What comes behind the bar.
    pub performance: String,
}

/// A running Nagios that runs each plugin every second.
#[derive(Debug)]
pub struct Nagios {
    program: Program,
    folder: TempDir,
}

impl Nagios {
    /// Starts it inside; each plugin is a name and a command line.
    pub fn start(nagios: &Path, inside: &Namespace, plugins: &[(&str, String)]) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("tcpstall-lab-").tempdir()?;
        let path = folder.path();
        fs::create_dir(path.join("results"))?;
        let file = path.join("nagios.cfg");
        fs::write(&file, configuration(path))?;
        fs::write(path.join("objects.cfg"), objects(plugins))?;
        let mut program = Program::start(
            inside,
            nagios,
            &[file.display().to_string()],
            path.join("log"),
        )?;
        let status = path.join("status.dat");
        program.wait_until(START, || status.is_file())?;
        Ok(Self { program, folder })
    }

    /// What was understood of a plugin's last answer; `None` before the first.
    pub fn answer(&self, plugin: &str) -> Option<Answer> {
        let text = fs::read_to_string(self.folder.path().join("status.dat")).ok()?;
        answer(&text, plugin)
    }

    /// Waits for an answer of a plugin that `holds`.
    pub fn wait_until(
        &self,
        limit: Duration,
        plugin: &str,
        holds: impl Fn(&Answer) -> bool,
    ) -> Result<Answer> {
        let end = Instant::now() + limit;
        loop {
            let answer = self.answer(plugin);
            if let Some(answer) = answer.as_ref().filter(|it| holds(it)) {
                return Ok(answer.clone());
            }
            ensure!(
                Instant::now() < end,
                "{plugin}: {answer:?} after {limit:?}; Nagios said:\n{}",
                self.program.log()
            );
            signal::sleep(Duration::from_millis(100))?;
        }
    }
}

fn configuration(folder: &Path) -> String {
    let path = |name: &str| folder.join(name).display().to_string();
    let files = [
        ("log_file", "nagios.log"),
        ("cfg_file", "objects.cfg"),
        ("object_cache_file", "objects.cache"),
        ("precached_object_file", "objects.precache"),
        ("status_file", "status.dat"),
        ("temp_file", "nagios.tmp"),
        ("check_result_path", "results"),
        ("lock_file", "nagios.lock"),
        ("command_file", "nagios.cmd"),
        ("query_socket", "nagios.qh"),
    ];
    let files: String = files
        .iter()
        .map(|(key, name)| format!("{key}={}\n", path(name)))
        .collect();
    format!(
        "{files}temp_path={}\nstatus_update_interval=1\ninterval_length=1\n\
         retain_state_information=0\nuse_syslog=0\ncheck_external_commands=0\n\
         check_for_updates=0\nenable_notifications=0\nservice_check_timeout=20\n\
         nagios_user=root\nnagios_group=root\n",
        folder.display()
    )
}

fn objects(plugins: &[(&str, String)]) -> String {
    let days = [
        "sunday",
        "monday",
        "tuesday",
        "wednesday",
        "thursday",
        "friday",
        "saturday",
    ];
    let days: String = days
        .iter()
        .map(|it| format!("  {it} 00:00-24:00\n"))
        .collect();
    let usual = "  contacts operator\n  max_check_attempts 1\n  check_period always\n  \
                 notification_interval 0\n  notification_period always\n";
    let mut text = format!(
        "define timeperiod {{\n  timeperiod_name always\n  alias always\n{days}}}\n\
         define command {{\n  command_name nobody\n  command_line /bin/true\n}}\n\
         define contact {{\n  contact_name operator\n  host_notification_period always\n  \
         service_notification_period always\n  host_notification_options n\n  \
         service_notification_options n\n  host_notification_commands nobody\n  \
         service_notification_commands nobody\n}}\n\
         define host {{\n  host_name mx1\n  address 127.0.0.1\n{usual}}}\n"
    );
    for (name, line) in plugins {
        text += &format!(
            "define command {{\n  command_name check-{name}\n  command_line {line}\n}}\n\
             define service {{\n  host_name mx1\n  service_description {name}\n  \
             check_command check-{name}\n  check_interval 1\n  retry_interval 1\n{usual}}}\n"
        );
    }
    text
}

/// The block of a service in `status.dat`; services without a check yet say so.
fn answer(text: &str, plugin: &str) -> Option<Answer> {
    let blocks = text.split("servicestatus {").skip(1);
    let mut blocks = blocks.filter_map(|it| it.split("\n\t}").next());
    let field = |block: &str, key: &str| {
        let mut lines = block.lines().map(str::trim_start);
        lines.find_map(|line| Some(line.strip_prefix(key)?.strip_prefix('=')?.to_owned()))
    };
    let block = blocks.find(|it| field(it, "service_description").as_deref() == Some(plugin))?;
    if field(block, "has_been_checked")? != "1" {
        return None;
    }
    Some(Answer {
        state: field(block, "current_state")?.parse().ok()?,
        output: field(block, "plugin_output")?,
        performance: field(block, "performance_data")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_read() {
        let text = "servicestatus {\n\tservice_description=a\n\thas_been_checked=0\n\t}\n\
                    servicestatus {\n\tservice_description=b\n\thas_been_checked=1\n\t\
                    current_state=2\n\tplugin_output=X = y\n\tperformance_data='a'=1;;;0\n\t}\n";
        assert_eq!(answer(text, "a"), None);
        let expected = Answer {
            state: 2,
            output: "X = y".to_owned(),
            performance: "'a'=1;;;0".to_owned(),
        };
        assert_eq!(answer(text, "b"), Some(expected));
    }
}
