import Foundation

/// The sources of the repository, as text.
struct Repository {
  struct File {
    /// The path from the root, such as `Sources/Core/Metering/Limits.swift`.
    let path: String
    let lines: [Substring]

    /// `Core` in the path above; nil outside of `Sources`.
    var floor: String? { part(1, of: "Sources") }
    /// `Metering` in the path above.
    var target: String? { part(2, of: "Sources") }

    private func part(_ index: Int, of root: String) -> String? {
      let parts = path.split(separator: "/")
      return parts.first.map(String.init) == root && parts.count > index + 1
        ? String(parts[index]) : nil
    }

    /// The modules that it imports.
    var imports: [String] {
      lines.compactMap { line in
        let words = line.split(separator: " ")
        guard let place = words.firstIndex(of: "import"), place < words.count - 1,
          words[..<place].allSatisfy({ $0.hasPrefix("@") || Self.levels.contains(String($0)) })
        else { return nil }
        return String(words[words.count - 1].prefix { $0 != "." })
      }
    }

    private static let levels: Set = ["package", "public", "internal", "private", "fileprivate"]
  }

  static let root = URL(filePath: #filePath)
    .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

  /// The Swift files of a folder.
  static func swift(_ folder: String) throws -> [File] {
    let base = root.appending(path: folder)
    let found = FileManager.default.enumerator(at: base, includingPropertiesForKeys: nil)
    var files: [File] = []
    while let url = found?.nextObject() as? URL {
      guard url.pathExtension == "swift" else { continue }
      let text = try String(contentsOf: url, encoding: .utf8)
      let path = String(url.path.dropFirst(root.path.count)).drop { $0 == "/" }
      var lines = text.split(separator: "\n", omittingEmptySubsequences: false)
      if lines.last?.isEmpty == true { lines.removeLast() }
      files.append(File(path: String(path), lines: lines))
    }
    return files.sorted { $0.path < $1.path }
  }

  static func names(_ folder: String) throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: root.appending(path: folder).path).sorted()
  }
}
