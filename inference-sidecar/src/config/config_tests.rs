//! Goal: the commented file is the truth about options and defaults, and what is wrong is refused with
//! its line and key, by file and by flag.

use clap::Parser;

use super::*;

/// The names that the reader of a table knows, as its complaint about an unknown one lists them.
fn known_keys(table: &str) -> Vec<String> {
    let text = match table {
        "" => "no_such_key = 1".to_owned(),
        table => format!("[[{table}]]\nno_such_key = 1"),
    };
    let complaint = Config::parse(&text).unwrap_err().message().to_owned();
    let (_, list) = complaint.split_once("expected one of").unwrap();
    let keys: Vec<String> = list
        .split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect();
    assert!(keys.len() >= 3, "{complaint}");
    keys
}

/// Lines `key = value` and `#key = value` of a table, by key; true: not behind "#".
fn keys_of(table: &str) -> Vec<(String, bool)> {
    let mut current = "";
    let mut keys = Vec::new();
    for line in DEFAULT_FILE.lines() {
        let (option, is_set) = match line.strip_prefix('#') {
            Some(option) => (option, false),
            None => (line, true),
        };
        if let Some(name) = option.strip_prefix("[[") {
            current = name.trim_end_matches(']');
        } else if let Some((key, _)) = option.split_once(" = ")
            && !option.starts_with(' ')
            && current == table
        {
            keys.push((key.to_owned(), is_set));
        }
    }
    keys
}

#[test]
fn the_default_file_holds_exactly_the_defaults() {
    assert_eq!(Config::parse(DEFAULT_FILE).unwrap(), Config::default());
    assert_eq!(Config::parse("").unwrap(), Config::default());
    // Without a default in the file, the value above would come from the code and prove nothing.
    let debug = format!("{:?}", Config::default());
    for (key, is_set) in keys_of("") {
        assert_eq!(!is_set, debug.contains(&format!(" {key}: None")), "{key}");
    }
}

#[test]
fn the_default_file_explains_every_option() {
    for table in ["", "embedding_model", "language_model"] {
        let explained: Vec<String> = keys_of(table).into_iter().map(|(key, _)| key).collect();
        for key in known_keys(table) {
            let is_table = DEFAULT_FILE.contains(&format!("\n#[[{key}]]\n"));
            assert!(explained.contains(&key) || is_table, "{key} of {table:?}");
        }
    }
    // Each option has a comment above it or above its group.
    let lines: Vec<&str> = DEFAULT_FILE.lines().collect();
    for pair in lines.windows(2) {
        let is_option = |line: &str| !line.starts_with("# ") && line.contains(" = ");
        assert!(
            !is_option(pair[1]) || pair[0].starts_with("# "),
            "{}",
            pair[1]
        );
    }
}

#[test]
fn the_examples_of_the_default_file_parse() {
    let uncomment = |line: &str| match line.strip_prefix('#') {
        Some(option) if !option.starts_with(' ') => option.to_owned(),
        _ => line.to_owned(),
    };
    let text: Vec<String> = DEFAULT_FILE.lines().map(uncomment).collect();
    // Keys of the top level may not follow a table: the file keeps its tables at the end.
    let config = Config::parse(&text.join("\n")).unwrap();
    assert_eq!(config.language_models[0].context_tokens, Some(8192));
    assert!(config.metrics_listen.unwrap().is_local());
}

#[test]
fn refusals_name_line_and_key() {
    for (text, expected) in [
        ("queue_size = 5\nqueue_sise = 5", ["line 2", "queue_sise"]),
        (
            "\n\n[[language_model]]\nname = \"m\"\npath = \"/m\"\ncontext = 1",
            ["line 6", "context"],
        ),
        ("queue_size = 0", ["line 1", "from 1 to 65536"]),
        ("threads = -1", ["threads", "from 0 to 1024"]),
        ("kv_mib = \"much\"", ["kv_mib", "invalid type"]),
        ("kv_mib = 1000000000", ["kv_mib", "from 1 to 4194304"]),
        ("kv_mib = 18446744073709551615", ["line 1", "kv_mib"]),
        ("log = \"a\"\nlog = \"b\"", ["line 2", "duplicate key"]),
        (
            "metrics_listen = \"here\"",
            ["metrics_listen", "numeric address"],
        ),
        (
            "[[embedding_model]]\nname = \"a b\"\npath = \"/m\"",
            ["line 2", "letters, digits"],
        ),
        (
            "[[embedding_model]]\nname = \"m\"\npath = \"/m\"\nsha256 = \"00ff\"",
            ["line 4", "64 hex"],
        ),
        ("[[embedding_model]]\nname = \"m\"", ["line 1", "path"]),
        (
            "[[language_model]]\nname = \"m\"\npath = \"/m\"\ndevice = \"tpu\"",
            ["device", "\"cuda:0\""],
        ),
        (
            "kv_cache_dtype = \"fp8\"",
            ["kv_cache_dtype", "`float16` or `int8`"],
        ),
        ("cpus = \"all\"", ["cpus", "\"0-3,8\""]),
        (
            "[[embedding_model]]\nname = \"m\"\npath = \"/m\"\nquantization = \"int4\"",
            ["line 4", "`none` or `int8`"],
        ),
        ("queue_size", ["line 1", ""]),
    ] {
        let error = Config::parse(text).unwrap_err().to_string();
        for part in expected {
            assert!(error.contains(part), "expected {part:?} in:\n{error}");
        }
    }
}

/// What a configuration with one model says to `change`.
fn check(change: impl FnOnce(&mut Config)) -> Result<(), String> {
    let model = "[[language_model]]\nname = \"m\"\npath = \"/m\"";
    let mut config = Config::parse(model).unwrap();
    change(&mut config);
    config.check().map_err(|error| error.to_string())
}

#[test]
fn a_device_must_be_built_in() {
    let on_gpu = |config: &mut Config| config.language_models[0].device = DeviceConfig::Cuda(0);
    match cfg!(feature = "cuda") {
        true => check(on_gpu).unwrap(),
        false => check_refused(on_gpu, "cargo feature \"cuda\""),
    }
}

#[test]
fn keys_and_values_of_a_gpu_are_not_in_8_bits() {
    let text = "kv_cache_dtype = \"int8\"\n[[language_model]]\nname = \"m\"\npath = \"/m\"";
    let mut config = Config::parse(text).unwrap();
    config.check().unwrap();
    config.language_models[0].device = DeviceConfig::Cuda(0);
    let error = config.check().unwrap_err().to_string();
    let expected = match cfg!(feature = "cuda") {
        true => "\"kv_cache_dtype\"",
        false => "cargo feature \"cuda\"",
    };
    assert!(error.contains(expected), "{error}");
}

fn check_refused(change: impl FnOnce(&mut Config), expected: &str) {
    let error = check(change).unwrap_err();
    assert!(error.contains(expected), "{error}");
}

#[test]
fn values_must_go_together() {
    check(|_| ()).unwrap();
    check_refused(|c| c.language_models.clear(), "no model");
    check_refused(
        |c| c.language_models.push(c.language_models[0].clone()),
        "two models have the name \"m\"",
    );
    check_refused(
        |c| c.prompt_chunk_tokens = 257,
        "\"prompt_chunk_tokens\" must be at most batch_tokens_max, which is 256",
    );
    check_refused(|c| c.batch_tokens_max = 63, "batch_tokens_max");
    check_refused(|c| c.listen = "127.0.0.1:1".parse().ok(), "\"listen\"");
}

#[test]
fn keys_and_values_fit_the_machine() {
    let check = |kv_mib, models, machine_mib| {
        let mut config = Config::parse("[[language_model]]\nname = \"m\"\npath = \"/m\"").unwrap();
        config.kv_mib = kv_mib;
        config.language_models = vec![config.language_models[0].clone(); models];
        memory::check_within(&config, machine_mib).map_err(|error| error.to_string())
    };
    check(512, 2, 1024).unwrap();
    check(4_194_304, 0, 1024).unwrap();
    let refused = check(513, 2, 1024).unwrap_err();
    assert!(
        refused.contains("\"kv_mib\" must be at most 512"),
        "{refused}"
    );
    assert!(check(u64::MAX, 3, 1024).is_err());
    // Nobody's machine has 4 TiB.
    let text = "kv_mib = 4194304\n[[language_model]]\nname = \"m\"\npath = \"/m\"";
    let config = Config::parse(text).unwrap();
    assert!(check_memory(&config).is_err());
    assert!(
        review(&config)
            .problems
            .iter()
            .any(|line| line.contains("kv_mib"))
    );
}

#[test]
fn metrics_stay_on_this_machine() {
    let listen = |address: &str, metrics_allow_remote| {
        check(|config| {
            config.metrics_listen = Some(address.parse().unwrap());
            config.metrics_allow_remote = metrics_allow_remote;
        })
    };
    for local in [
        "127.0.0.1:9464",
        "[::1]:9464",
        "[::ffff:127.0.0.1]:1",
        "/run/m",
        "unix:/run/m",
    ] {
        listen(local, false).unwrap();
    }
    for remote in ["0.0.0.0:9464", "10.0.0.1:9464", "[::]:9464"] {
        assert!(
            listen(remote, false)
                .unwrap_err()
                .contains("metrics_allow_remote")
        );
        listen(remote, true).unwrap();
    }
    for no_address in ["localhost:1", "127.0.0.1", "run/m", ""] {
        assert!(no_address.parse::<MetricsAddress>().is_err());
    }
}

/// The action of the command line `sidecar ARGUMENTS`, or the complaint about it.
fn action(arguments: &str) -> Result<Action, String> {
    let words = arguments.split(' ').filter(|word| !word.is_empty());
    let line = CommandLine::try_parse_from(["sidecar"].into_iter().chain(words));
    line.map_err(|e| e.to_string())?
        .action()
        .map_err(|e| e.to_string())
}

fn served(arguments: &str) -> Config {
    match action(arguments) {
        Ok(Action::Serve(config)) => *config,
        other => panic!("{other:?}"),
    }
}

#[test]
fn flags() {
    assert!(action("--socket /s").unwrap_err().contains("no model"));
    assert!(
        matches!(action("--socket /s --check"), Ok(Action::CheckReady(s)) if s.to_str() == Some("/s"))
    );
    assert!(matches!(action("--print-config"), Ok(Action::PrintConfig)));
    assert!(action("--embedding-model /models/a").is_err());
    assert!(action("--embedding-model a=/x --queue-size 0").is_err());
    assert!(action("--embedding-model a=/x --queue-size 65537").is_err());
    assert!(action("--embedding-model a=/x --context-tokens 63").is_err());
    assert!(action("--embedding-model a=/x --expect-sha256 a=00ff").is_err());
    let digits = "AB".repeat(32);
    let unknown = action(&format!(
        "--embedding-model a=/x --expect-sha256 b={digits}"
    ));
    assert!(unknown.unwrap_err().contains("\"b\""));

    let config = served(&format!(
        "--socket /s --language-model m=/x/y=z.gguf --expect-sha256 m={digits}"
    ));
    assert_eq!(config.socket.to_str(), Some("/s"));
    assert_eq!(config.language_models[0].path.to_str(), Some("/x/y=z.gguf"));
    let sha256 = config.language_models[0].sha256.as_deref();
    assert_eq!(sha256, Some(digits.to_lowercase().as_str()));
    assert_eq!(
        served("serve --socket /s --language-model m=/x").queue_size,
        256
    );
    assert!(matches!(action("bench --socket /s"), Ok(Action::Bench(_))));
    assert!(action("bench --requests 0").is_err());
}

#[test]
fn flags_override_and_extend_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sidecar.toml");
    let text = "socket = \"/from_file\"\nqueue_size = 7\ncontext_tokens = 99\n\
                [[language_model]]\nname = \"m\"\npath = \"/m\"\ncontext_tokens = 77";
    std::fs::write(&path, text).unwrap();
    let file = path.display();

    let config = served(&format!("--config {file}"));
    assert_eq!(config.queue_size, 7);
    assert_eq!(config.context_tokens_of(&config.language_models[0]), 77);
    let config = served(&format!(
        "serve --config {file} --queue-size 9 --socket /s --language-model n=/n --log debug"
    ));
    assert_eq!(config.queue_size, 9);
    assert_eq!(config.socket.to_str(), Some("/s"));
    assert_eq!(config.log, "debug");
    assert_eq!(config.model_names().collect::<Vec<_>>(), ["m", "n"]);
    assert_eq!(config.context_tokens_of(&config.language_models[1]), 99);

    let missing = action("--config /nowhere.toml").unwrap_err();
    assert!(missing.contains("\"/nowhere.toml\""));
}

#[test]
fn the_review_finds_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("m.gguf");
    std::fs::write(&model, "").unwrap();
    let mut config = Config {
        socket: folder.path().join("socket"),
        ..Config::parse("[[language_model]]\nname = \"m\"\npath = \"/nowhere.gguf\"").unwrap()
    };
    assert_eq!(review(&config).problems.len(), 1);
    assert!(review(&config).problems[0].contains("\"/nowhere.gguf\""));
    config.language_models[0].path = model;
    assert_eq!(review(&config).problems, [""; 0]);
    config.socket = "/no/such/directory/socket".into();
    config.log = "info,=".into();
    config.metrics_listen = "/no/such/directory/metrics".parse().ok();
    assert_eq!(review(&config).problems.len(), 3);
    let embedding = "[[embedding_model]]\nname = \"e\"\npath = \"/no/such/model\"";
    let problems = review(&Config::parse(embedding).unwrap()).problems;
    assert_eq!(
        problems
            .iter()
            .filter(|line| line.contains("\"e\""))
            .count(),
        3
    );
}
