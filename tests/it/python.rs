//! Python for the tests that hold us against other tools.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

/// Set where the packages must be had, as CI does: then a test without them fails.
const REQUIRED: &str = "WAYLINE_TESTS_NEED_PYTHON";

/// A Python with the packages of a file of requirements. They come from PyPI into a virtual environment under the target
/// folder, once. Without Python or PyPI it is `None` and a line says so: the test is skipped.
pub fn python(requirements: &str) -> Option<PathBuf> {
    match installed(requirements) {
        Ok(python) => Some(python),
        Err(reason) if std::env::var_os(REQUIRED).is_some() => panic!("{REQUIRED} is set, but {reason}"),
        Err(reason) => {
            // Written past the runner, which keeps what a passing test prints to itself.
            let line = format!("skipped: {reason}; the test runs where python3 can install {requirements} from PyPI\n");
            std::io::stderr().write_all(line.as_bytes()).unwrap();
            None
        }
    }
}

fn installed(requirements: &str) -> Result<PathBuf, String> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _held = ONE_AT_A_TIME.lock();
    let folder = Path::new(requirements).parent().and_then(Path::file_name).unwrap();
    let requirements = Path::new(env!("CARGO_MANIFEST_DIR")).join(requirements);
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python").join(folder);
    let python = home.join("bin/python");
    let installed = home.join("installed.txt");
    let wanted = std::fs::read_to_string(&requirements).unwrap();
    if std::fs::read_to_string(&installed).is_ok_and(|text| text == wanted) {
        return Ok(python);
    }
    run(Command::new("python3").args(["-m", "venv"]).arg(&home))?;
    run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "-r"]).arg(&requirements))?;
    std::fs::write(installed, wanted).unwrap();
    Ok(python)
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?} does not start: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{command:?} fails: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}
