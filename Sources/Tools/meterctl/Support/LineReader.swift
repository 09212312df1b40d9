import Glibc

/// The lines of a file in order, each at most `maximumBytes` long. Its memory is bounded whatever
/// the file contains. A last line without an end is a line too. LF ends lines, and a CR before it
/// is kept.
final class LineReader {
  enum Line {
    case bytes(ArraySlice<UInt8>)
    /// The line was longer than allowed and was skipped.
    case tooLong
  }

  let path: String
  /// The size of the file when it was opened; 0 for a pipe.
  let fileBytes: Int64
  private(set) var bytesRead: Int64 = 0
  /// The number of the line that `next` returned last, from 1.
  private(set) var number: Int64 = 0

  private let descriptor: Int32
  private let maximumBytes: Int
  private let skipsLeadingNULs: Bool
  private var buffer: [UInt8]
  private var start = 0
  private var end = 0
  private var isAtEnd = false

  /// - Parameters:
  ///   - skipsLeadingNULs: NULs before a line are not part of it and need no memory. A log that was
  ///     rotated by copying and truncating begins with as many NULs as bytes were truncated.
  ///   - copiesPipes: a pipe is first copied to a temporary file, so that nothing that happens
  ///     between two lines has to wait for its writer.
  init(
    path: String, maximumBytes: Int = 65_536, skipsLeadingNULs: Bool = false,
    copiesPipes: Bool = false
  ) throws {
    var opened = open(path, O_RDONLY | O_CLOEXEC)
    guard opened >= 0 else {
      throw Failure("\(path) cannot be read: \(String(cString: strerror(errno)))")
    }
    var status = stat()
    fstat(opened, &status)
    if status.st_mode & S_IFMT == S_IFDIR {
      close(opened)
      throw Failure("\(path) is a folder; name a file")
    }
    if copiesPipes, status.st_mode & S_IFMT != S_IFREG {
      let pipe = opened
      defer { close(pipe) }
      opened = try Self.copy(of: pipe, path)
      fstat(opened, &status)
    }
    descriptor = opened
    self.path = path
    fileBytes = Int64(status.st_size)
    self.maximumBytes = maximumBytes
    self.skipsLeadingNULs = skipsLeadingNULs
    buffer = [UInt8](repeating: 0, count: maximumBytes + 1_048_576)
  }

  deinit { close(descriptor) }

  /// Copies everything to a temporary file that no folder lists, so it ends with the process.
  private static func copy(of pipe: Int32, _ path: String) throws -> Int32 {
    let folder = getenv("TMPDIR").map { String(cString: $0) } ?? "/tmp"
    var name = Array("\(folder)/meterctl-XXXXXX".utf8CString)
    let file = mkstemp(&name)
    guard file >= 0 else {
      throw Failure("\(folder) takes no file: \(String(cString: strerror(errno)))")
    }
    unlink(name)
    var buffer = [UInt8](repeating: 0, count: 65_536)
    while true {
      let count = read(pipe, &buffer, buffer.count)
      if count < 0, errno == EINTR { continue }
      guard count >= 0 else {
        let reason = String(cString: strerror(errno))
        close(file)
        throw Failure("\(path) cannot be read: \(reason)")
      }
      if count == 0 { break }
      // A short write to a file means that there is no room for the rest.
      guard write(file, buffer, count) == count else {
        close(file)
        throw Failure("\(path) does not fit into a temporary file in \(folder)")
      }
    }
    lseek(file, 0, SEEK_SET)
    return file
  }

  func next() throws -> Line? {
    var isTooLong = false
    var searched = start
    while true {
      if skipsLeadingNULs, !isTooLong {
        while start < end, buffer[start] == 0 { start += 1 }
        searched = max(searched, start)
      }
      if let newline = buffer[searched..<end].firstIndex(of: UInt8(ascii: "\n")) {
        let line = buffer[start..<newline]
        start = newline + 1
        number += 1
        return isTooLong || line.count > maximumBytes ? .tooLong : .bytes(line)
      }
      if end - start > maximumBytes {
        isTooLong = true
        start = end
      }
      if isAtEnd {
        guard start < end || isTooLong else { return nil }
        let line = buffer[start..<end]
        start = end
        number += 1
        return isTooLong ? .tooLong : .bytes(line)
      }
      searched = try fill()
    }
  }

  /// Reads more bytes.
  /// - Returns: where the new bytes begin.
  private func fill() throws -> Int {
    let kept = end - start
    if start > 0 {
      _ = buffer.withUnsafeMutableBytes { memmove($0.baseAddress!, $0.baseAddress! + start, kept) }
    }
    start = 0
    end = kept
    while true {
      let count = buffer.withUnsafeMutableBytes {
        read(descriptor, $0.baseAddress! + kept, $0.count - kept)
      }
      if count < 0 {
        if errno == EINTR { continue }
        throw Failure("\(path) cannot be read: \(String(cString: strerror(errno)))")
      }
      isAtEnd = count == 0
      end += count
      bytesRead += Int64(count)
      return kept
    }
  }
}
