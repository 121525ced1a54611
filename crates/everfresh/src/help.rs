//! What stands below the options in `--help` and in the manual: examples, and what is good to know.

/// Of everfresh itself.
pub(crate) const EVERFRESH: &str = "\
Start here:
  everfresh demo                                      see it at work, with no account
  everfresh serve                                     run the daemon
  everfresh add linear https://mcp.linear.app/mcp     add a server and log in
  everfresh list                                      see how all logins are
  everfresh doctor                                    check everything

Completion of commands, options and server names (put it where your shell starts):
  bash, zsh:  source <(everfresh completions bash)    or: zsh
  fish:       everfresh completions fish | source

Exit codes: 0 done, 1 failed, 2 usage or configuration, 3 login needed, 4 provider or server
unreachable, 5 no such server, 6 daemon not reachable, 7 store, 8 refused by a rule.";

/// Of `serve`.
pub(crate) const SERVE: &str = "\
Examples:
  everfresh serve
  everfresh serve --listen 127.0.0.1:7500 --log-level debug

Once it is ready it prints one line: listening on http://127.0.0.1:7411. SIGTERM and Ctrl-C let answers
and refreshes under way end; SIGHUP reads the configuration again.";

/// Of `add`.
pub(crate) const ADD: &str = "\
Examples:
  everfresh add linear https://mcp.linear.app/mcp
  everfresh add github https://api.githubcopilot.com/mcp/ --client-id Iv1.abc --client-secret-env GITHUB_SECRET
  everfresh add api https://api.example.com/v1 --issuer https://login.example.com --scope read --scope write
  everfresh add robot https://mcp.example.com --grant client_credentials --client-id abc --private-key-file key.pem
  everfresh add internal https://mcp.corp.example --ca-file corp-ca.pem --header 'X-Tenant: acme' --no-login";

/// Of `login`.
pub(crate) const LOGIN: &str = "\
Examples:
  everfresh login linear                 in the browser of this machine
  everfresh login linear@work            a second account of the same server
  everfresh login linear --paste         the browser is on another machine than this terminal
  everfresh login linear --device        by a code, where the provider offers that
  everfresh login linear --new-client    the provider's page speaks of an unknown client

Ctrl-C ends the waiting, not the login: the next everfresh login goes on with it, and --cancel takes it back.";

/// Of `list`.
pub(crate) const LIST: &str = "\
Examples:
  everfresh list
  everfresh list --watch                  live, until Ctrl-C
  everfresh list --watch | tee changes    one line for each change
  everfresh list --watch -o json          the same as a line of JSON each
  everfresh list --check                  for scripts: exit code 10 or 11 if anything is not well
  everfresh list -o json | jq -r '.servers[] | select(.health.level != \"healthy\") | .health.command'";

/// Of `show`.
pub(crate) const SHOW: &str = "\
Examples:
  everfresh show linear
  everfresh show linear -o json | jq .token.expires_at";

/// Of `journal`.
pub(crate) const JOURNAL: &str = "\
Examples:
  everfresh journal linear
  everfresh journal linear --limit 5
  everfresh journal linear -o json

Tokens appear as eight digits of their digest: a journal can be pasted into a bug report.";

/// Of `refresh`.
pub(crate) const REFRESH: &str = "\
Example:
  everfresh refresh linear

There is seldom need to: the daemon refreshes by itself. Attempts of one login keep their distance (10 s).";

/// Of `token`.
pub(crate) const TOKEN: &str = "\
Examples:
  curl -H \"$(everfresh token linear -o header)\" https://mcp.linear.app/mcp
  TOKEN=$(everfresh token linear)
  everfresh token linear -o json | jq -r .expires_at

A token is good for minutes: ask for it each time, and do not keep it. Clients that can be pointed at a
URL are better off with: everfresh url linear";

/// Of `url`.
pub(crate) const URL: &str = "\
Examples:
  everfresh url linear --for raycast
  everfresh url linear

With --for the URL on stdout has a key of that client's own in it, which may send requests to this server and
no more. Without, it has the local key, which opens all your logins on this machine: keep it to yourself.";

/// Of `stdio`.
pub(crate) const STDIO: &str = "\
Example, in a client's configuration:
  { \"mcpServers\": { \"linear\": { \"command\": \"everfresh\", \"args\": [\"stdio\", \"linear\"] } } }";

/// Of `doctor`.
pub(crate) const DOCTOR: &str = "\
Examples:
  everfresh doctor
  everfresh doctor linear
  everfresh doctor -o json | jq '.checks[] | select(.result == \"failed\")'

It opens no browser, changes nothing and spends no refresh token. Exit code: 0 where nothing failed, else
that of the first check that did.";

/// Of `completions`.
pub(crate) const COMPLETIONS: &str = "\
Put one of these where your shell starts:
  bash        source <(everfresh completions bash)                              ~/.bashrc
  zsh         source <(everfresh completions zsh)                               ~/.zshrc
  fish        everfresh completions fish | source                               ~/.config/fish/config.fish
  elvish      eval (everfresh completions elvish | slurp)                       ~/.config/elvish/rc.elv
  powershell  everfresh completions powershell | Out-String | Invoke-Expression $PROFILE

The script asks everfresh at each Tab, also for the names of your servers.";

/// Of `schema`.
pub(crate) const SCHEMA: &str = "\
Example:
  everfresh list -o json | check-jsonschema --schemafile <(everfresh schema list) -

Fields are added and never taken away or changed; docs/schema/ holds the same files.";
