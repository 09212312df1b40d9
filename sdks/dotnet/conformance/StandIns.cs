// The few members of ASP.NET Core that the middleware uses, with its names and shapes: no ASP.NET Core can be had where the tests run.
// They show that the middleware does the right thing with them, and not that ASP.NET Core does.
using System;
using System.Collections.Generic;
using System.IO;
using System.Net;
using System.Text;
using System.Threading;
using System.Threading.Tasks;

namespace Microsoft.Extensions.Primitives
{
    public struct StringValues
    {
        private readonly string[] values;

        public StringValues(params string[] values) => this.values = values;

        public override string ToString() => values == null ? "" : string.Join(",", values);
    }
}

namespace Microsoft.AspNetCore.Http
{
    using Microsoft.Extensions.Primitives;

    public delegate Task RequestDelegate(HttpContext context);

    public interface IHeaderDictionary
    {
        StringValues this[string name] { get; set; }
    }

    public sealed class HeaderDictionary : IHeaderDictionary
    {
        private readonly Dictionary<string, StringValues> values =
            new Dictionary<string, StringValues>(StringComparer.OrdinalIgnoreCase);

        public StringValues this[string name]
        {
            get => values.TryGetValue(name, out var value) ? value : default(StringValues);
            set => values[name] = value;
        }
    }

    public struct HostString
    {
        public HostString(string value) => Value = value;

        public string Value { get; }
    }

    public sealed class HttpRequest
    {
        public IHeaderDictionary Headers { get; } = new HeaderDictionary();

        public HostString Host { get; set; }
    }

    public sealed class HttpResponse
    {
        public int StatusCode { get; set; } = 200;

        public string ContentType { get; set; }

        public Stream Body { get; set; } = new MemoryStream();
    }

    public static class HttpResponseWritingExtensions
    {
        public static Task WriteAsync(
            this HttpResponse response, string text, CancellationToken cancellation = default(CancellationToken))
        {
            var bytes = Encoding.UTF8.GetBytes(text);
            return response.Body.WriteAsync(bytes, 0, bytes.Length, cancellation);
        }
    }

    public sealed class ConnectionInfo
    {
        public IPAddress RemoteIpAddress { get; set; }
    }

    public sealed class HttpContext
    {
        public HttpRequest Request { get; } = new HttpRequest();

        public HttpResponse Response { get; } = new HttpResponse();

        public ConnectionInfo Connection { get; } = new ConnectionInfo();

        public IDictionary<object, object> Items { get; } = new Dictionary<object, object>();

        public CancellationToken RequestAborted { get; set; }
    }
}

namespace Microsoft.AspNetCore.Builder
{
    using System.Linq;
    using Microsoft.AspNetCore.Http;

    public interface IApplicationBuilder
    {
        IApplicationBuilder Use(Func<RequestDelegate, RequestDelegate> middleware);

        RequestDelegate Build();
    }

    public sealed class ApplicationBuilder : IApplicationBuilder
    {
        private readonly List<Func<RequestDelegate, RequestDelegate>> middlewares =
            new List<Func<RequestDelegate, RequestDelegate>>();

        public IApplicationBuilder Use(Func<RequestDelegate, RequestDelegate> middleware)
        {
            middlewares.Add(middleware);
            return this;
        }

        public RequestDelegate Build()
        {
            RequestDelegate last = context => Task.CompletedTask;
            return Enumerable.Reverse(middlewares).Aggregate(last, (next, middleware) => middleware(next));
        }
    }
}
