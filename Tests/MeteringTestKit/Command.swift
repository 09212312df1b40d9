import Glibc

/// Runs a command to its end, silently.
///
/// It does not use Foundation's `Process`, which notices the end by a socket that daemons inherit.
/// After `pg_ctl start` it would wait for PostgreSQL itself.
package enum Command {
  package struct Failed: Error, CustomStringConvertible { package let description: String }

  package static func run(_ command: [String], folder: String = "/") throws {
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
    posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0)
    posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0)
    var arguments = (["/usr/bin/env", "--chdir", folder] + command).map { strdup($0) } + [nil]
    defer { for argument in arguments { free(argument) } }
    var pid: pid_t = 0
    let code = posix_spawn(&pid, "/usr/bin/env", &actions, nil, &arguments, environ)
    guard code == 0 else { throw Failed(description: "\(command.joined(separator: " ")): \(code)") }
    var status: Int32 = 0
    while waitpid(pid, &status, 0) == -1 && errno == EINTR {}
    guard status == 0 else {
      throw Failed(description: "\(command.joined(separator: " ")): status \(status)")
    }
  }
}
