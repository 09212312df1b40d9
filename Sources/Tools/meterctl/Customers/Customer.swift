import Administration
import ArgumentParser
import JSONText
import Metering
import PostgresStore

struct Customer: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "customer", abstract: "List, show, add and change customers.",
    discussion: "Example: meterctl customer add cus_42 --name 'Example Ltd'",
    subcommands: [
      CustomerList.self, CustomerShow.self, CustomerAdd.self, CustomerUpdate.self,
    ])

  static func json(_ customer: CustomerStore.Customer) -> JSON {
    [
      "customer_id": .text(customer.id.string), "name": .text(customer.name),
      "stripe_customer_id": .optional(customer.stripeCustomerID),
      "created_at": .text(Moment(milliseconds: customer.createdAt).description),
      "licenses": .integer(customer.licenses),
    ]
  }

  static func text(_ customer: CustomerStore.Customer) -> String {
    [
      "customer    \(customer.id)", "name        \(Terminal.printable(customer.name))",
      "at Stripe   \(customer.stripeCustomerID ?? "-")",
      "created     \(Moment(milliseconds: customer.createdAt))",
      "licenses    \(Terminal.grouped(customer.licenses))",
    ].joined(separator: "\n")
  }

  /// Runs a change. If the customer does not exist, the error says where to look.
  static func changing(
    _ body: (Administrator) throws -> CustomerStore.Customer
  ) throws -> CustomerStore.Customer {
    do {
      return try body(Connections().administrator("customer"))
    } catch let refusal as AdministrationRefusal where refusal.kind == .notFound {
      throw Failure("\(refusal); see: meterctl customer list")
    }
  }

  static func body(_ members: [(String, String?)]) throws -> JSONValue {
    try JSONReader.parse(
      Array(
        JSON.object(
          members.compactMap { name, value in value.map { (name, .text($0)) } }
        ).compact.utf8))
  }
}

struct CustomerList: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "list", abstract: "List customers in the order of their ids.",
    discussion: "Example: meterctl customer list --search example")

  @Option(help: "The beginning of an id or a part of a name.")
  var search: String?

  @Option(help: "List only ids after this one, for the next page.")
  var after: String?

  @Option(help: "The largest number to list, up to 1,000,000.")
  var limit = 1_000

  @OptionGroup var output: OutputOptions

  func validate() throws {
    guard (1...1_000_000).contains(limit) else {
      throw ValidationError("--limit must be from 1 to 1,000,000")
    }
    for text in [search, after] where text?.utf8.contains(0) == true {
      throw ValidationError("an id must not contain NUL")
    }
  }

  func run() throws {
    // One row more than requested shows whether there are more.
    let found = try CustomerStore(Connections().database("customer")).list(
      search: search, after: after, limit: limit + 1)
    let shown = found.prefix(limit)
    output.print(
      .array(shown.map(Customer.json)),
      text: shown.isEmpty
        ? "no customers"
        : Terminal.table(
          ["customer", "name", "licenses", "at Stripe"],
          shown.map {
            [
              Terminal.printable($0.id.string), Terminal.printable($0.name),
              Terminal.grouped($0.licenses), $0.stripeCustomerID ?? "-",
            ]
          }, right: [2]))
    if found.count > limit, let last = shown.last, !output.json {
      Terminal.error("note: there are more: --after '\(Terminal.printable(last.id.string))'")
    }
  }
}

struct CustomerShow: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "show", abstract: "Show a customer.",
    discussion: "Example: meterctl customer show cus_42 --json")

  @Argument(help: "The customer's id.") var id: String
  @OptionGroup var output: OutputOptions

  func run() throws {
    guard let found = try CustomerStore(Connections().database("customer")).customer(id) else {
      throw Failure("there is no such customer; see: meterctl customer list")
    }
    output.print(Customer.json(found), text: Customer.text(found))
  }
}

struct CustomerAdd: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "add", abstract: "Add a customer.",
    discussion: """
      license import also creates the customers that its lines name.

      Example: meterctl customer add cus_42 --name 'Example Ltd' --stripe-customer cus_NffrFeUfNV2Hib
      """)

  @Argument(help: "The customer's id.") var id: String

  @Option(help: "The customer's name. Without it, the id is shown.")
  var name: String?

  @Option(help: "Its id at Stripe, for exports.")
  var stripeCustomer: String?

  @OptionGroup var output: OutputOptions

  func run() throws {
    let made = try Customer.changing {
      try $0.createCustomer(
        Customer.body([
          ("customer_id", id), ("name", name), ("stripe_customer_id", stripeCustomer),
        ]))
    }
    output.print(Customer.json(made), text: Customer.text(made))
  }
}

struct CustomerUpdate: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "update", abstract: "Change a customer's name or its id at Stripe.",
    discussion: "Example: meterctl customer update cus_42 --name 'Example Inc'")

  @Argument(help: "The customer's id.") var id: String

  @Option(help: "The customer's name.")
  var name: String?

  @Option(help: "Its id at Stripe, for exports, or none to remove it.")
  var stripeCustomer: String?

  @OptionGroup var output: OutputOptions

  func validate() throws {
    guard name != nil || stripeCustomer != nil else {
      throw ValidationError("give --name or --stripe-customer, or both")
    }
  }

  func run() throws {
    var members: [(String, JSON)] = []
    if let name { members.append(("name", .text(name))) }
    if let stripeCustomer {
      members.append(
        ("stripe_customer_id", stripeCustomer == "none" ? .null : .text(stripeCustomer)))
    }
    let patch = try JSONReader.parse(Array(JSON.object(members).compact.utf8))
    let found = try Customer.changing { try $0.updateCustomer(id, patch: patch) }
    output.print(Customer.json(found), text: Customer.text(found))
  }
}
