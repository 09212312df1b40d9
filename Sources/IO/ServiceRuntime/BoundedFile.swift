import Foundation

/// Reads whole small files, up to a limit. It is used for `NAME_FILE` settings and `/proc`.
enum BoundedFile {
  enum Failure: Error {
    case tooLarge
    case system(code: Int32)
  }

  /// Returns the file's bytes. The file may be a pipe, so its size is not asked for. Blocks the
  /// calling thread while reading.
  static func read(_ path: String, maximumBytes: Int) -> Result<[UInt8], Failure> {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return .failure(.system(code: errno)) }
    defer { close(descriptor) }
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 16_384)
    while bytes.count <= maximumBytes {
      let count = chunk.withUnsafeMutableBytes {
        Foundation.read(descriptor, $0.baseAddress, $0.count)
      }
      if count == 0 { return .success(bytes) }
      if count < 0 {
        if errno == EINTR { continue }
        return .failure(.system(code: errno))
      }
      bytes.append(contentsOf: chunk[..<count])
    }
    return .failure(.tooLarge)
  }

  /// The system's text for an `errno` value.
  static func message(_ code: Int32) -> String { String(cString: strerror(code)) }
}
