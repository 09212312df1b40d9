using System;
using System.Collections.Generic;
using System.Globalization;
using System.Linq;
using System.Net;

namespace LicenseMetering
{
    /// <summary>An address, or a range such as 10.0.0.0/8.</summary>
    public sealed class Network
    {
        private readonly byte[] address;
        private readonly int prefix;

        private Network(byte[] address, int prefix)
        {
            this.address = address;
            this.prefix = prefix;
        }

        /// <exception cref="FormatException">Where the text is none.</exception>
        public static Network Parse(string text)
        {
            var slash = text.IndexOf('/');
            if (!IPAddress.TryParse(slash < 0 ? text : text.Substring(0, slash), out var address))
            {
                throw new FormatException("a network must be an address or address/prefix");
            }
            var bytes = address.GetAddressBytes();
            var prefix = 8 * bytes.Length;
            if (slash >= 0 && (!int.TryParse(text.Substring(slash + 1), NumberStyles.None, CultureInfo.InvariantCulture, out prefix) ||
                prefix > 8 * bytes.Length))
            {
                throw new FormatException("a network must be an address or address/prefix");
            }
            return new Network(bytes, prefix);
        }

        /// <summary>An IPv4 address that is written as one of IPv6 (::ffff:10.1.2.3) counts as what it is.</summary>
        public bool Contains(IPAddress other)
        {
            var bytes = (other.IsIPv4MappedToIPv6 ? other.MapToIPv4() : other).GetAddressBytes();
            if (bytes.Length != address.Length)
            {
                return false;
            }
            return Enumerable.Range(0, prefix).All(bit => ((bytes[bit / 8] ^ address[bit / 8]) >> (7 - bit % 8) & 1) == 0);
        }
    }

    /// <summary>Whose domain a request is about, and what a refusal says, without any framework.</summary>
    public sealed class LicenseGuard
    {
        /// <summary>The type of a refusal's body.</summary>
        public const string ContentType = "application/problem+json";

        /// <summary>What to ask about; null: the request's host.</summary>
        public string Domain { get; set; }

        /// <summary>Addresses and ranges whose X-Forwarded-Host is believed.</summary>
        public IReadOnlyList<Network> TrustedProxies { get; set; } = new Network[0];

        /// <summary>The domain to ask about. The peer is the connection's other end; the header is X-Forwarded-Host.</summary>
        public string DomainOf(IPAddress peer, string host, string forwarded)
        {
            if (!string.IsNullOrEmpty(Domain))
            {
                return Domain;
            }
            if (string.IsNullOrEmpty(forwarded) || peer == null || !TrustedProxies.Any(proxy => proxy.Contains(peer)))
            {
                return host ?? "";
            }
            // The last is the trusted proxy's own; what stands before may be the client's.
            return forwarded.Substring(forwarded.LastIndexOf(',') + 1).Trim();
        }

        /// <summary>403, and 503 where nothing is known.</summary>
        public static int StatusOf(LicenseResult result) => result.Code == "unreachable" ? 503 : 403;

        /// <summary>A refusal's body, of the type ContentType.</summary>
        public static string BodyOf(LicenseResult result)
        {
            var status = StatusOf(result);
            var texts = Json.Object(
                "type", "about:blank", "title", status == 503 ? "Service Unavailable" : "Forbidden", "code", result.Code, "detail",
                result.Explanation.Length > 0 ? result.Explanation : "The license is not valid.");
            return texts.Substring(0, texts.Length - 1) + ",\"status\":" + status.ToString(CultureInfo.InvariantCulture) + "}";
        }
    }
}
