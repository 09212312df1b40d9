import Foundation

/// The initial inputs: the files of a folder, in the order of their names.
package enum FuzzCorpus {
  /// - Throws: Foundation's error if the folder cannot be read.
  package static func inputs(_ folder: String) throws -> [[UInt8]] {
    try FileManager.default.contentsOfDirectory(atPath: folder).sorted().map {
      Array(try Data(contentsOf: URL(fileURLWithPath: folder + "/" + $0)))
    }
  }
}
