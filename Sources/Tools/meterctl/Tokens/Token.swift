import Administration
import ArgumentParser
import Metering
import PostgresStore

/// `meterctl token …`: manages bearer tokens for the APIs.
struct Token: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Create, list and revoke API tokens.",
    subcommands: [Create.self, List.self, Revoke.self])

  struct Create: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Create a token. It is shown once; only its hash is stored.",
      discussion:
        "Example: meterctl token create --name 'shop backend' --scope usage:write --customer cus_42 --expires 90d"
    )

    @Option(help: "What the token is for, so that people recognize it.")
    var name: String

    @Option(
      parsing: .upToNextOption,
      help: """
        What it may do: one scope or several, such as usage:write licenses:validate. A write scope \
        includes its read scope, usage:write also licenses:validate, and admin everything.
        """)
    var scope: [String] = []

    @Option(help: "The customer it belongs to. Without this, it is the vendor's own token.")
    var customer: String?

    @Option(help: "How long it is valid, such as 12h or 90d. Without this, until it is revoked.")
    var expires: String?

    @OptionGroup var output: OutputOptions

    func validate() throws {
      guard (1...200).contains(name.utf8.count) else {
        throw ValidationError("--name must have 1 to 200 bytes")
      }
      guard !scope.isEmpty, scope.allSatisfy({ TokenScope(rawValue: $0) != nil }) else {
        let known = TokenScope.allCases.map(\.rawValue).joined(separator: ", ")
        throw ValidationError("--scope must be one or more of \(known)")
      }
      if let expires, Lifetime.seconds(expires) == nil {
        throw ValidationError("--expires must be a number followed by m, h or d, such as 90d")
      }
    }

    func run() throws {
      let made: (token: TokenReads.Token, secret: String)
      do {
        made = try Connections().administrator("token-create").createToken(
          Administrator.NewToken(
            name: name, scopes: scope, customerID: customer,
            lifetimeSeconds: expires.flatMap { Lifetime.seconds($0) }))
      } catch let refusal as AdministrationRefusal where refusal.kind == .notFound {
        throw Failure("\(refusal); meterctl customer add creates one")
      }
      output.print(
        [
          "token_id": .text(made.token.id), "token": .text(made.secret), "name": .text(name),
          "scopes": .array(scope.map { .text($0) }), "customer_id": .optional(customer),
        ], text: "\(made.token.id)\n\(made.secret)\nIt is not shown again.")
    }
  }

  struct List: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "List tokens, newest first.", discussion: "Example: meterctl token list --json")

    @OptionGroup var output: OutputOptions

    func run() throws {
      let rows = try AccessStore(Connections().database("token-list")).listTokens()
      output.print(
        .array(
          rows.rows.map { row in
            .object(
              zip(rows.columns, row).map { name, value in
                name == "scopes"
                  ? (name, .array((value ?? "").split(separator: " ").map { .text(String($0)) }))
                  : (name, .optional(value))
              })
          }),
        text: rows.isEmpty
          ? "no tokens" : Terminal.table(rows.columns, rows.rows.map { $0.map { $0 ?? "-" } }))
    }
  }

  struct Revoke: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Revoke a token. It stops working everywhere within a second.",
      discussion: "Example: meterctl token revoke tok_9aF3…")

    @Argument(help: "The id of the token, not the token itself.")
    var id: String

    func run() throws {
      do {
        try Connections().administrator("token-revoke").revokeToken(id)
      } catch let refusal as AdministrationRefusal where refusal.kind == .notFound {
        throw Failure("\(refusal); see: meterctl token list")
      }
    }
  }
}
