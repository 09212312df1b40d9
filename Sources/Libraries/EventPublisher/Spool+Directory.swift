import Foundation

/// The directory of a spool, which one process at a time may use.
extension Spool {
  static func lock(_ directory: String) throws(SpoolError) -> Int32 {
    if mkdir(directory, 0o700) != 0, errno != EEXIST {
      throw .system("make its directory", errno)
    }
    try refuseUnsafe(directory)
    let file = open(directory + "/lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
    guard file >= 0 else { throw .system("open its lock", errno) }
    guard flock(file, LOCK_EX | LOCK_NB) == 0 else {
      close(file)
      throw .inUse(directory)
    }
    return file
  }

  /// Removes trailing slashes, because `lstat` would follow a link that has one.
  static func withoutSlashes(_ directory: String) -> String {
    var path = directory
    while path.utf8.count > 1, path.hasSuffix("/") { path.removeLast() }
    return path
  }

  /// Refuses a directory that others can write to or replace, because they could forge or remove
  /// events.
  private static func refuseUnsafe(_ directory: String) throws(SpoolError) {
    var status = stat()
    guard lstat(directory, &status) == 0 else { throw .system("read its directory", errno) }
    switch status.st_mode & S_IFMT {
    case S_IFDIR: break
    case S_IFLNK:
      throw .settings(
        "METER_SPOOL_DIR is a symbolic link. It must name the directory itself")
    default: throw .settings("METER_SPOOL_DIR is not a directory")
    }
    guard status.st_mode & S_IWOTH == 0 else {
      let mode = String(status.st_mode & 0o7777, radix: 8)
      throw .settings(
        "everybody may write into METER_SPOOL_DIR (mode \(mode)). Run chmod 700 on it, or name a "
          + "directory inside it, which the program makes")
    }
    let user = geteuid()
    guard user == 0 || status.st_uid == user || status.st_uid == 0 else {
      throw .settings("METER_SPOOL_DIR belongs to another user")
    }
  }
}
