/// The files that pages load. They are compiled in, so nothing is read from a folder.
package struct PageAsset: Sendable {
  package let bytes: [UInt8]
  package let contentType: String

  /// - Parameter name: the name in the address, such as `style.css`.
  package static func named(_ name: String) -> PageAsset? {
    switch name {
    case "style.css": style
    case "copy.js": script
    case "icon.svg": icon
    default: nil
    }
  }

  private static let style = PageAsset(
    bytes: PackageResources.style_css, contentType: "text/css; charset=utf-8")
  private static let script = PageAsset(
    bytes: PackageResources.copy_js, contentType: "text/javascript; charset=utf-8")
  private static let icon = PageAsset(
    bytes: PackageResources.icon_svg, contentType: "image/svg+xml")
}
