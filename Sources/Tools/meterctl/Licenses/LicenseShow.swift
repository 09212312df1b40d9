import ArgumentParser
import JSONText
import PostgresStore
import Recount

extension License {
  struct Show: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Show a license: all fields, limits, and billing anchors with their first days.",
      discussion: "Example: meterctl license show lic_abc123 --json")

    @Argument(help: "The license's id.")
    var id: String

    @OptionGroup var output: OutputOptions

    func run() throws {
      let rows = try LicenseStore(Connections().database("license-show")).licenses(id: id, limit: 1)
      guard !rows.isEmpty else {
        throw Failure("there is no such license; see: meterctl license list")
      }
      let members = License.members(rows, 0)
      output.print(
        .object(members),
        text: members.map {
          Terminal.padded($0.0, 20) + License.plain($0.1)
        }.joined(separator: "\n"))
    }
  }

  struct List: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "List licenses in the order of their ids.",
      discussion: "Example: meterctl license list --customer cus_42 --status suspended")

    @Option(help: "List only this customer's.")
    var customer: String?

    @Option(help: "List only those that are active, suspended or canceled.")
    var status: Status?

    @Option(help: "The largest number to list, up to 1,000,000.")
    var limit = 1_000

    @OptionGroup var output: OutputOptions

    enum Status: String, ExpressibleByArgument, CaseIterable {
      case active
      case suspended
      case canceled
    }

    func validate() throws {
      guard (1...1_000_000).contains(limit) else {
        throw ValidationError("--limit must be from 1 to 1,000,000")
      }
    }

    func run() throws {
      // One row more than requested shows whether there are more.
      let rows = try LicenseStore(Connections().database("license-list")).licenses(
        customer: customer, status: status?.rawValue, limit: limit + 1)
      let all = rows.rows.indices.prefix(limit).map { License.members(rows, $0) }
      let shown = [
        "license_id", "customer_id", "plan", "status", "expires_at", "limits", "domains",
      ]
      output.print(
        .array(all.map { .object($0) }),
        text: all.isEmpty
          ? "no licenses"
          : Terminal.table(
            shown,
            all.map { members in
              shown.map { name in
                members.first { $0.0 == name }.map { License.plain($0.1) } ?? ""
              }
            }))
      if rows.rows.count > limit {
        Terminal.error("note: there are more than \(limit); --limit shows more")
      }
    }
  }

  /// A row of `LicenseStore.licenses` with types.
  static func members(_ rows: SQLRows, _ row: Int) -> [(String, JSON)] {
    rows.columns.enumerated().map { column, name in
      guard let text = rows.text(row, column) else { return (name, .null) }
      switch name {
      case "features", "domains", "alert_thresholds", "limits", "billing_anchors":
        return (name, json(text))
      case "seats", "billing_anchor_day": return (name, .optional(Int64(text)))
      case "trial": return (name, .boolean(text == "t"))
      default: return (name, .text(text))
      }
    }
  }

  /// A value that PostgreSQL wrote as JSON.
  static func json(_ text: String) -> JSON {
    func convert(_ value: JSONValue) -> JSON {
      switch value {
      case .object(let members):
        .object(
          members.map { (String(decoding: $0.name.bytes, as: UTF8.self), convert($0.value)) })
      case .array(let items): .array(items.map(convert))
      case .string(let string): .text(String(decoding: string.bytes, as: UTF8.self))
      case .number(let digits): Int64(digits).map { .integer($0) } ?? .text(digits)
      case .bool(let value): .boolean(value)
      case .null: .null
      }
    }
    guard let value = try? JSONReader.parse(Array(text.utf8)) else { return .text(text) }
    return convert(value)
  }

  fileprivate static func plain(_ value: JSON) -> String {
    switch value {
    case .text(let text): Terminal.printable(text)
    case .null: "-"
    case .array(let items):
      items.isEmpty ? "-" : items.map(plain).joined(separator: ", ")
    case .object(let members):
      members.isEmpty ? "-" : members.map { "\($0.0) \(plain($0.1))" }.joined(separator: ", ")
    default: value.compact
    }
  }
}
