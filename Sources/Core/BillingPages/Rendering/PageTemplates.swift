import Mustache

/// The templates of all pages, parsed once.
///
/// `layout.mustache` is the frame of a page. `components.mustache` holds one template for each
/// component; each begins with a line `{{! name }}`. The template of a component reads only its own
/// values, by names that begin with a dot, because a name without one is also looked up in the
/// surroundings.
enum PageTemplates {
  static let library: MustacheLibrary = {
    MustacheContentTypes.register(HTMLText(), named: HTMLText.name)
    var library = MustacheLibrary()
    var sources = components(String(decoding: PackageResources.components_mustache, as: UTF8.self))
    sources["layout"] = String(decoding: PackageResources.layout_mustache, as: UTF8.self)
    for (name, source) in sources {
      do {
        try library.register("{{% CONTENT_TYPE:\(HTMLText.name)}}\(source)", named: name)
      } catch {
        preconditionFailure("the template \(name) cannot be read: \(error)")
      }
    }
    return library
  }()

  /// Cuts the file of components at the lines with their names.
  static func components(_ file: String) -> [String: String] {
    var sources: [String: String] = [:]
    var name: String?
    var lines: [Substring] = []
    func finish() {
      if let name { sources[name] = lines.joined(separator: "\n") }
      lines = []
    }
    for line in file.split(separator: "\n") {
      if line.hasPrefix("{{! "), line.hasSuffix(" }}") {
        finish()
        name = String(line.dropFirst(4).dropLast(3))
      } else {
        lines.append(line)
      }
    }
    finish()
    return sources
  }
}
