//! Variables that steer programs: names with a meaning to a loader, a shell, a runtime, an SDK or the reader
//! itself.
//!
//! The key of a parameter is derived from its name. Without this check, anyone who may create
//! `/prod/shop/path` in SSM could set the `PATH` of every program that is started with the mirror, and so
//! choose the program. Such a key is accepted only if the mirror sets it explicitly (`spec.parameters[].key`,
//! [`Entry::is_key_given`]). The reader's `exec`, `watch` and `export` and both `verify` commands use this
//! one table.
//!
//! The table is based on published lists: what the loader drops for programs with more permissions than their
//! caller (ld.so(8), "secure-execution mode"), what sudo never passes on (`initial_badenv_table` in its
//! `env.c`), and the manuals named with each group.

use crate::content::entry::{Entries, Entry};

/// Names with a meaning to one kind of program. A name that ends with `*` is a prefix.
struct Group {
    /// What the names steer, for people.
    steers: &'static str,
    names: &'static [&'static str],
}

/// Matched case-sensitively: `path` means nothing to any program, `http_proxy` does.
const TABLE: [Group; 9] = [
    // ld.so(8), "ENVIRONMENT" and "secure-execution mode"; dyld(1); AIX and HP-UX from sudo's table.
    Group {
        steers: "the loader and the C library",
        names: &[
            "LD_*",
            "DYLD_*",
            "_RLD*",
            "LDR_*",
            "LIBPATH",
            "SHLIB_PATH",
            "GCONV_PATH",
            "GETCONF_DIR",
            "GLIBC_TUNABLES",
            "HOSTALIASES",
            "LOCALDOMAIN",
            "LOCPATH",
            "MALLOC_*",
            "NIS_PATH",
            "NLSPATH",
            "PATH_LOCALE",
            "RESOLV_HOST_CONF",
            "RES_OPTIONS",
            "TMPDIR",
            "TZDIR",
        ],
    },
    // POSIX.1-2024, XBD 8.3 and XCU 2.5.3; bash(1), "Shell Variables"; zshparam(1); sudo's table.
    Group {
        steers: "shells",
        names: &[
            "PATH",
            "ENV",
            "IFS",
            "CDPATH",
            "FPATH",
            "PS4",
            "SHELL",
            "SHELLOPTS",
            "HOME",
            "BASH_*",
            "BASHOPTS",
            "GLOBIGNORE",
            "PROMPT_COMMAND",
            "ZDOTDIR",
            "NULLCMD",
            "READNULLCMD",
            "TMPPREFIX",
            "TERMCAP",
            "TERMINFO*",
            "TERMPATH",
        ],
    },
    // nodejs.org/api/cli.html, "Environment variables"; docs.npmjs.com, "config"; bun and deno likewise.
    Group {
        steers: "Node.js",
        names: &[
            "NODE_OPTIONS",
            "NODE_PATH",
            "NODE_EXTRA_CA_CERTS",
            "NODE_ICU_DATA",
            "NODE_REDIRECT_WARNINGS",
            "NODE_REPL_*",
            "NODE_TLS_REJECT_UNAUTHORIZED",
            "NODE_USE_*",
            "NODE_V8_COVERAGE",
            "NPM_CONFIG_*",
            "npm_config_*",
            "BUN_*",
            "DENO_*",
        ],
    },
    // docs.python.org/3/using/cmdline.html, "Environment variables"; perlrun(1); ruby(1); bundle-config(1); php.net, "Runtime
    // Configuration"; lua(1); erl(1); R's "Startup".
    Group {
        steers: "Python, Ruby, Perl, PHP, Lua, Erlang or R",
        names: &[
            "PYTHON*",
            "PIP_*",
            "VIRTUAL_ENV",
            "RUBYOPT",
            "RUBYLIB",
            "RUBYPATH",
            "RUBYSHELL",
            "GEM_*",
            "BUNDLE_*",
            "PERL*",
            "PHPRC",
            "PHP_INI_SCAN_DIR",
            "LUA_*",
            "ERL_*",
            "ELIXIR_ERL_OPTIONS",
            "R_ENVIRON*",
            "R_LIBS*",
            "R_PROFILE*",
        ],
    },
    // docs.oracle.com, "The JAVA_TOOL_OPTIONS Environment Variable" and "The java Command"; start scripts of Tomcat, Maven and Gradle;
    // learn.microsoft.com, ".NET environment variables"; pkg.go.dev/runtime.
    Group {
        steers: "Java, .NET or Go",
        names: &[
            "JAVA_TOOL_OPTIONS",
            "_JAVA_OPTIONS",
            "JDK_JAVA_OPTIONS",
            "IBM_JAVA_OPTIONS",
            "OPENJ9_JAVA_OPTIONS",
            "JAVA_OPTS",
            "JAVA_OPTIONS",
            "JAVA_HOME",
            "JRE_HOME",
            "CATALINA_*",
            "CLASSPATH",
            "MAVEN_OPTS",
            "GRADLE_OPTS",
            "DOTNET_*",
            "CORECLR_*",
            "COR_ENABLE_PROFILING",
            "COR_PROFILER*",
            "COMPlus_*",
            "ASPNETCORE_HOSTINGSTARTUPASSEMBLIES",
            "GODEBUG",
            "GOFLAGS",
            "GOPROXY",
            "GOTRACEBACK",
        ],
    },
    // git(1), "Environment Variables"; ssh(1); sudo(8); GNU make, tar and rsync; less(1), "SECURITY"; man(1); kubectl, docker,
    // gcloud and gpg.
    Group {
        steers: "tools that programs call",
        names: &[
            "GIT_*",
            "SSH_ASKPASS*",
            "SSH_AUTH_SOCK",
            "SSH_SK_PROVIDER",
            "SUDO_*",
            "MAKEFILES",
            "MAKEFLAGS",
            "GNUMAKEFLAGS",
            "TAR_OPTIONS",
            "RSYNC_RSH",
            "EXINIT",
            "VIMINIT",
            "PSQLRC",
            "EDITOR",
            "VISUAL",
            "PAGER",
            "MANPAGER",
            "BROWSER",
            "LESS",
            "LESSOPEN",
            "LESSCLOSE",
            "WGETRC",
            "CURL_HOME",
            "GNUPGHOME",
            "KRB5*",
            "KUBECONFIG",
            "DOCKER_CONFIG",
            "DOCKER_HOST",
            "CLOUDSDK_*",
            "GOOGLE_APPLICATION_CREDENTIALS",
            "XDG_*",
        ],
    },
    // curl(1), "ENVIRONMENT"; openssl-env(7); NSS's SSLKEYLOGFILE; requests, "SSL Cert Verification".
    Group {
        steers: "where connections lead and whom they trust",
        names: &[
            "HTTP_PROXY",
            "HTTPS_PROXY",
            "FTP_PROXY",
            "ALL_PROXY",
            "NO_PROXY",
            "http_proxy",
            "https_proxy",
            "ftp_proxy",
            "all_proxy",
            "no_proxy",
            "SSL_CERT_DIR",
            "SSL_CERT_FILE",
            "SSLKEYLOGFILE",
            "OPENSSL_*",
            "CURL_CA_BUNDLE",
            "REQUESTS_CA_BUNDLE",
        ],
    },
    // docs.aws.amazon.com/sdkref, "Settings reference": endpoints, credentials, profiles, config files; the
    // variables that Lambda reserves; boto's BOTO_CONFIG. All of AWS_*, because each SDK adds its own.
    Group {
        steers: "AWS SDKs, the AWS CLI and Lambda",
        names: &["AWS_*", "_HANDLER", "_X_AMZN_*", "LAMBDA_*", "BOTO_CONFIG", "CHAMBER_*"],
    },
    Group { steers: "the reader", names: &["PARAMETER_MIRROR_*"] },
];

/// Returns what a variable of this name steers; `None` if it means something only to the program itself.
#[must_use]
pub fn steers(name: &str) -> Option<&'static str> {
    let fits = |pattern: &str| match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => name == pattern,
    };
    TABLE.iter().find(|group| group.names.iter().any(|pattern| fits(pattern))).map(|group| group.steers)
}

/// Returns why the key of a parameter must not become a variable, for people; `None` if it may.
#[must_use]
pub fn objection(name: &str, entry: &Entry) -> Option<String> {
    let key = entry.key.as_deref().filter(|_| !entry.is_key_given)?;
    steers(key).map(|what| format!("{name} would be the variable {key}, which steers {what}"))
}

/// Returns all objections to the keys of a set.
#[must_use]
pub fn objections(entries: &Entries) -> Vec<String> {
    entries.iter().filter_map(|(name, entry)| objection(name, entry)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::content;

    #[test]
    fn what_steers_programs_is_known() {
        for name in [
            "PATH",
            "LD_PRELOAD",
            "LD_LIBRARY_PATH",
            "DYLD_INSERT_LIBRARIES",
            "BASH_ENV",
            "ENV",
            "IFS",
            "SHELLOPTS",
            "PS4",
            "PROMPT_COMMAND",
            "NODE_OPTIONS",
            "NODE_EXTRA_CA_CERTS",
            "PYTHONPATH",
            "PYTHONSTARTUP",
            "PYTHONHOME",
            "RUBYOPT",
            "PERL5OPT",
            "PERL5LIB",
            "JAVA_TOOL_OPTIONS",
            "_JAVA_OPTIONS",
            "JDK_JAVA_OPTIONS",
            "DOTNET_STARTUP_HOOKS",
            "GIT_SSH_COMMAND",
            "AWS_ENDPOINT_URL",
            "AWS_ENDPOINT_URL_SSM",
            "AWS_ACCESS_KEY_ID",
            "AWS_CONFIG_FILE",
            "AWS_PROFILE",
            "AWS_CONTAINER_CREDENTIALS_FULL_URI",
            "AWS_LAMBDA_EXEC_WRAPPER",
            "HTTPS_PROXY",
            "https_proxy",
            "SSL_CERT_FILE",
            "PARAMETER_MIRROR_REDIS_URL",
        ] {
            assert!(steers(name).is_some(), "{name}");
        }
    }

    #[test]
    fn what_programs_are_configured_with_is_left_alone() {
        for name in [
            "DB_HOST",
            "DATABASE_URL",
            "PGPASSWORD",
            "REDIS_URL",
            "LOG_LEVEL",
            "RUST_LOG",
            "NODE_ENV",
            "RAILS_ENV",
            "APP_PATH",
            "PATH_PREFIX",
            "path",
            "env",
            "ENVIRONMENT",
            "JAVA_VERSION",
            "GITHUB_TOKEN",
            "AWSOME",
            "PORT",
            "HOST",
            "TZ",
            "LANG",
            "",
        ] {
            assert_eq!(steers(name), None, "{name}");
        }
    }

    #[test]
    fn a_key_that_the_mirror_gives_is_no_objection() {
        let mut entries = content().entries;
        entries.get_mut("/p/host").unwrap().key = Some("PATH".to_owned());
        assert_eq!(objections(&entries), ["/p/host would be the variable PATH, which steers shells"]);
        entries.get_mut("/p/host").unwrap().is_key_given = true;
        assert!(objections(&entries).is_empty());
    }
}
