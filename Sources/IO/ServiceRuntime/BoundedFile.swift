import Foundation

/// Reads small files whole, with a limit; used for `NAME_FILE` settings and `/proc`.
enum BoundedFile {
  enum Failure: Error {
    case tooLarge
    case system(code: Int32)
  }

  /// The file's bytes, which may also come from a pipe, so the size is not asked beforehand.
  /// Blocks the calling thread for the reads.
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

  /// The system's words for an `errno` value.
  static func message(_ code: Int32) -> String { String(cString: strerror(code)) }
}
